"""Whether a returned value is the expected one. Both are plain data by the time they get here."""

from __future__ import annotations

import math
import reprlib
from typing import Any

from ift_lightning.evaluation.sandbox.inside.wire import Opaque
from ift_lightning.evaluation.sandbox.types import Tolerance

_SEQUENCES = (list, tuple)
_SETS = (set, frozenset)


def is_equal(left: Any, right: Any, tolerance: Tolerance) -> bool:
    """Return whether ``left == right`` in Python's sense, with a tolerance for floats.

    As in Python, ``1 == 1.0 == True`` and ``[1] != (1,)``. Other than in Python, NaN is never
    equal, not even inside a list that is compared with itself. Items of sets and keys of
    dictionaries are compared exactly.

    Args:
        left: A value made of built-in types.
        right: Likewise.
        tolerance: Used where one of two numbers is a float.
    """
    return _compare(left, right, tolerance, strict=False)


def is_expected(actual: Any, expected: Any, tolerance: Tolerance) -> bool:
    """Return whether ``actual`` is ``expected``, in type and in value.

    ``True``, ``1`` and ``1.0`` are three different values here. JSON has no tuples, so an expected
    list takes a tuple as well, at every depth; an expected tuple takes nothing but a tuple.
    """
    return _compare(actual, expected, tolerance, strict=True)


def _compare(left: Any, right: Any, tolerance: Tolerance, *, strict: bool) -> bool:
    if isinstance(left, Opaque) or isinstance(right, Opaque):
        return False
    if isinstance(left, int | float | complex) and isinstance(right, int | float | complex):
        return (not strict or type(left) is type(right)) and _close(left, right, tolerance)
    if isinstance(left, _SEQUENCES) and isinstance(right, _SEQUENCES):
        same_type = type(left) is type(right) or (strict and isinstance(right, list))
        return (
            same_type
            and len(left) == len(right)
            and all(
                _compare(a, b, tolerance, strict=strict) for a, b in zip(left, right, strict=True)
            )
        )
    if isinstance(left, dict) and isinstance(right, dict):
        return len(left) == len(right) and all(
            key in right and _compare(value, right[key], tolerance, strict=strict)
            for key, value in left.items()
        )
    if isinstance(left, _SETS) and isinstance(right, _SETS):
        return (not strict or type(left) is type(right)) and left == right
    if strict and type(left) is not type(right):
        return False
    return bool(left == right)


def _close(left: complex, right: complex, tolerance: Tolerance) -> bool:
    if left == right:
        return True
    if isinstance(left, int) and isinstance(right, int):
        return False
    try:
        if isinstance(left, complex) or isinstance(right, complex):
            distance = abs(left - right)
            largest = max(abs(left), abs(right))
            return distance <= max(tolerance.absolute, tolerance.relative * largest)
        return math.isclose(left, right, rel_tol=tolerance.relative, abs_tol=tolerance.absolute)
    except OverflowError:  # an integer beyond every float
        return False


_REPR = reprlib.Repr()
_REPR.maxlevel, _REPR.maxother, _REPR.maxstring, _REPR.maxlong = 4, 80, 80, 40
_REPR.maxlist = _REPR.maxtuple = _REPR.maxset = _REPR.maxfrozenset = _REPR.maxdict = 12


def short(value: Any) -> str:
    """Return a bounded ``repr`` of a value made of built-in types."""
    try:
        return _REPR.repr(value)
    except (ValueError, RecursionError):  # an integer too long to be written
        return f"<{type(value).__name__}>"
