"""What a test may do with data: functions and operators whose cost is bounded.

The operands come from the code under test, and the work is done in the evaluator. Anything that
would take long raises ValueError, which fails the test.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable
from typing import Any

from ift_lightning.evaluation.sandbox.inside.wire import check_hashes

_MAX_ITEMS = 1_000_000
_MAX_SUMMED = 1000
_MAX_BITS = 1_000_000
_SMALL_BITS = 1024


def _bounded(value: Any) -> Any:
    """Return ``value``; ValueError where going through it would take too long."""
    if hasattr(value, "__len__") and len(value) > _MAX_ITEMS:
        raise ValueError("too many items")
    return value


def _over_items(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *args, **kwargs: function(*map(_bounded, args), **kwargs)


def _bounded_range(*args: int) -> range:
    return _bounded(range(*args))


def _hashed(kind: Callable[..., Any]) -> Callable[..., Any]:
    """Return the constructor of a set or dictionary; ValueError for items made to collide."""

    def construct(*args: Any, **kwargs: Any) -> Any:
        for items in args:
            keys = list(_bounded(items))
            if kind is dict and not isinstance(items, dict):
                keys = [key for key, _ in keys]
            check_hashes(keys)
        return kind(*args, **kwargs)

    return construct


def _bounded_bytes(*args: Any) -> bytes:
    if args and isinstance(args[0], int):
        _bounded(range(args[0]))
    return bytes(*map(_bounded, args))


def _bounded_sum(items: Any, *start: Any, **keywords: Any) -> Any:
    # Lists are copied anew for each item.
    starts_with_number = isinstance([*start, *keywords.values(), 0][0], int | float | complex)
    if not starts_with_number and len(items) > _MAX_SUMMED:
        raise ValueError("too many items")
    return sum(_bounded(items), *start, **keywords)


TYPES: dict[str, type] = {
    kind.__name__: kind
    for kind in (bool, int, float, complex, str, bytes, list, tuple, set, frozenset, dict)
}
FUNCTIONS: dict[str, Callable[..., Any]] = {
    **{name: _over_items(kind) for name, kind in TYPES.items()},
    **{kind.__name__: _hashed(kind) for kind in (set, frozenset, dict)},
    "abs": abs,
    "all": _over_items(all),
    "any": _over_items(any),
    "bytes": _bounded_bytes,
    "isinstance": isinstance,
    "len": len,
    "max": _over_items(max),
    "min": _over_items(min),
    "range": _bounded_range,
    "round": round,
    "sorted": _over_items(sorted),
    "sum": _bounded_sum,
}
_MATH_NAMES = ("ceil", "cos", "exp", "fabs", "floor", "isclose", "isinf", "isnan", "log", "sin")
MATH: dict[str, Any] = {
    **{name: getattr(math, name) for name in (*_MATH_NAMES, "sqrt", "trunc")},
    **{name: getattr(math, name) for name in ("pi", "e", "inf", "nan", "tau")},
}


def _multiply(left: Any, right: Any) -> Any:
    for first, second in ((left, right), (right, left)):
        if isinstance(first, int) and hasattr(second, "__len__"):
            _bounded(range(max(0, first) * len(second)))
    if isinstance(left, int) and isinstance(right, int):
        _bound_bits(left.bit_length() + right.bit_length())
    return left * right


def _power(base: Any, exponent: Any) -> Any:
    if isinstance(base, int) and isinstance(exponent, int):
        _bound_bits(base.bit_length() * abs(exponent))
    return base**exponent


def _shift_left(value: int, count: int) -> int:
    _bound_bits(value.bit_length() + count)
    return value << count


def _bound_bits(num_bits: int) -> None:
    if num_bits > _MAX_BITS:
        raise ValueError("an integer too large to work with")


def _divide(left: Any, right: Any) -> Any:
    _bound_division(left, right)
    return left // right


def _remainder(left: Any, right: Any) -> Any:
    if isinstance(left, str | bytes | bytearray):
        raise ValueError("string formatting in a test")
    _bound_division(left, right)
    return left % right


def _bound_division(left: Any, right: Any) -> None:
    """Refuse to divide one huge integer by another; by a small one is quick."""
    if isinstance(left, int) and isinstance(right, int) and right.bit_length() > _SMALL_BITS:
        _bound_bits(left.bit_length())


def _is_in(item: Any, container: Any) -> bool:
    if isinstance(container, range) and not isinstance(item, int):
        # Python would go through the whole range.
        if not isinstance(item, float) or not item.is_integer():
            return False
        item = int(item)
    return item in container


BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: _multiply,
    ast.Div: operator.truediv,
    ast.FloorDiv: _divide,
    ast.Mod: _remainder,
    ast.Pow: _power,
    ast.LShift: _shift_left,
    ast.RShift: operator.rshift,
    ast.BitAnd: operator.and_,
    ast.BitOr: operator.or_,
    ast.BitXor: operator.xor,
}
UNARY: dict[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
    ast.Not: operator.not_,
    ast.Invert: operator.invert,
}
ORDER: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
    ast.In: _is_in,
    ast.NotIn: lambda item, container: not _is_in(item, container),
}
