"""Whether a returned value is the expected one. Both are plain data by the time they get here."""

from __future__ import annotations

import cmath
import math
import reprlib
from collections.abc import Callable, Collection
from typing import Any

from ift_lightning.evaluation.sandbox.inside.wire import Opaque
from ift_lightning.evaluation.sandbox.types import Tolerance

_SEQUENCES = (list, tuple)
_SETS = (set, frozenset)
_EXACT = Tolerance()
_isclose: Callable[..., bool] = math.isclose


def is_equal(left: Any, right: Any, tolerance: Tolerance) -> bool:
    """Return whether ``left == right`` in Python's sense, with a tolerance for floats.

    As in Python, ``1 == 1.0 == True`` and ``[1] != (1,)``. Other than in Python, NaN is never
    equal, not even inside a list that is compared with itself. Items of sets and keys of
    dictionaries are compared exactly.

    Args:
        left: A value made of built-in types.
        right: Likewise.
        tolerance: Used where both numbers are floats; an integer is equal exactly or not at all.
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
        pairs = _same_keys(left, right, strict=strict)
        return pairs is not None and all(
            _compare(left[a], right[b], tolerance, strict=strict) for a, b in pairs
        )
    if isinstance(left, _SETS) and isinstance(right, _SETS):
        same_type = not strict or type(left) is type(right)
        return same_type and _same_keys(left, right, strict=strict) is not None
    if strict and type(left) is not type(right):
        return False
    return bool(left == right)


def _same_keys(
    left: Collection[Any], right: Collection[Any], *, strict: bool
) -> list[tuple[Any, Any]] | None:
    """Return the keys of both in pairs; None where one of them has no partner."""
    if len(left) != len(right):
        return None
    partners = {key: key for key in right}
    pairs = [(key, partners[key]) for key in left if key in partners]
    # Looking a key up takes True for 1, and NaN for itself.
    same = all(_compare(a, b, _EXACT, strict=strict) for a, b in pairs)
    return pairs if same and len(pairs) == len(left) else None


def _close(left: complex, right: complex, tolerance: Tolerance) -> bool:
    if left == right:
        return True
    if isinstance(left, int) or isinstance(right, int):
        return False
    # Both know that nothing finite is close to an infinity, complex ones included.
    isclose = cmath.isclose if isinstance(left, complex) or isinstance(right, complex) else _isclose
    return isclose(left, right, rel_tol=tolerance.relative, abs_tol=tolerance.absolute)


_REPR = reprlib.Repr()
_REPR.maxlevel, _REPR.maxother, _REPR.maxstring, _REPR.maxlong = 4, 80, 80, 40
_REPR.maxlist = _REPR.maxtuple = _REPR.maxset = _REPR.maxfrozenset = _REPR.maxdict = 12


def short(value: Any) -> str:
    """Return a bounded ``repr`` of a value made of built-in types."""
    try:
        return _REPR.repr(value)
    except (ValueError, RecursionError):  # an integer too long to be written
        return f"<{type(value).__name__}>"
