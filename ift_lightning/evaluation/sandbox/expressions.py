"""The expressions that tests are made of, evaluated without ``eval``.

A test such as ``assert sorted(f([3, 1])) == [1, 3]`` needs two things: the value of the call
``f([3, 1])``, which the sandbox gives, and the rest, which is simple enough to be worked out here.
What is not on the short list below raises :class:`NotDataError`, and the test runs in the sandbox.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ift_lightning.evaluation.sandbox.comparison import is_equal
from ift_lightning.evaluation.sandbox.types import Tolerance

_MAX_ITEMS = 1_000_000
_MAX_BITS = 1_000_000
_EXACT = Tolerance()


class NotDataError(Exception):
    """The expression needs more than data and calls of the code under test."""


@dataclass(frozen=True)
class Call:
    """A call of a function of the code under test."""

    name: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


def _bounded(value: Any) -> Any:
    """Return ``value``; ValueError where going through it would take too long."""
    if hasattr(value, "__len__") and len(value) > _MAX_ITEMS:
        raise ValueError("too many items")
    return value


def _over_items(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *args, **kwargs: function(*map(_bounded, args), **kwargs)


def _bounded_range(*args: int) -> range:
    return _bounded(range(*args))


_TYPES: dict[str, type] = {
    kind.__name__: kind
    for kind in (bool, int, float, complex, str, bytes, list, tuple, set, frozenset, dict)
}
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    **{name: _over_items(kind) for name, kind in _TYPES.items()},
    "abs": abs,
    "all": _over_items(all),
    "any": _over_items(any),
    "isinstance": isinstance,
    "len": len,
    "max": _over_items(max),
    "min": _over_items(min),
    "range": _bounded_range,
    "round": round,
    "sorted": _over_items(sorted),
    "sum": _over_items(sum),
}
_MATH_FUNCTIONS = ("ceil", "cos", "exp", "fabs", "floor", "isclose", "isinf", "isnan", "log", "sin")
_MATH: dict[str, Any] = {
    **{name: getattr(math, name) for name in (*_MATH_FUNCTIONS, "sqrt", "trunc")},
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


def _no_format(left: Any, right: Any) -> Any:
    if isinstance(left, str | bytes | bytearray):
        raise ValueError("string formatting in a test")
    return left % right


_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: _multiply,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: _no_format,
    ast.Pow: _power,
    ast.LShift: _shift_left,
    ast.RShift: operator.rshift,
    ast.BitAnd: operator.and_,
    ast.BitOr: operator.or_,
    ast.BitXor: operator.xor,
}
_UNARY: dict[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
    ast.Not: operator.not_,
    ast.Invert: operator.invert,
}
_ORDER: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
    ast.In: lambda item, container: item in container,
    ast.NotIn: lambda item, container: item not in container,
}


class Expression:
    """An expression over data and calls of the code under test.

    Args:
        node: Its syntax tree.
        aliases: Names in the test -> names in the code under test (``candidate``). They come before
            functions of Python's own with the same name.

    Raises:
        NotDataError: It needs more than that.
    """

    def __init__(self, node: ast.expr, aliases: Mapping[str, str]) -> None:
        self.node = node
        self.text = ast.unparse(node)
        self.calls: list[Call] = []
        self._aliases = aliases
        self._position: dict[ast.Call, int] = {}
        self._collect(node)

    def _collect(self, node: ast.expr) -> None:
        """Find the calls, in the order in which Python would make them, and refuse the rest."""
        if isinstance(node, ast.Call) and (name := self._called(node)) is not None:
            if any(isinstance(argument, ast.Starred) for argument in node.args):
                raise NotDataError("starred arguments")
            num_calls = len(self.calls)
            for child in (*node.args, *(keyword.value for keyword in node.keywords)):
                self._collect(child)
            if len(self.calls) > num_calls:
                raise NotDataError("a call whose argument is a call")
            self._position[node] = num_calls
            self.calls.append(self._make_call(name, node))
            return
        if not self._is_known(node):
            raise NotDataError(type(node).__name__)
        children: list[ast.expr] = []
        if isinstance(node, ast.Call):
            children = [*node.args, *(keyword.value for keyword in node.keywords)]
        elif not isinstance(node, ast.Attribute):
            children = [
                child for child in ast.iter_child_nodes(node) if isinstance(child, ast.expr)
            ]
        for child in children:
            self._collect(child)

    def _called(self, node: ast.Call) -> str | None:
        """Return the name of the function of the code under test that ``node`` calls, if any."""
        if not isinstance(node.func, ast.Name):
            return None
        name = node.func.id
        if name in self._aliases:
            return self._aliases[name]
        return None if name in _FUNCTIONS else name

    def _make_call(self, name: str, node: ast.Call) -> Call:
        if any(keyword.arg is None for keyword in node.keywords):
            raise NotDataError("**keywords")
        try:
            args = tuple(self._value(argument, ()) for argument in node.args)
            kwargs = {str(word.arg): self._value(word.value, ()) for word in node.keywords}
        except NotDataError:
            raise
        except Exception as error:
            raise NotDataError(f"{type(error).__name__}: {error}") from error
        return Call(name, args, kwargs)

    def _is_known(self, node: ast.AST) -> bool:
        if isinstance(node, ast.Name):
            return node.id in _TYPES and node.id not in self._aliases
        if isinstance(node, ast.Attribute):
            return _math_name(node) is not None
        if isinstance(node, ast.Call):
            names_function = isinstance(node.func, ast.Name) or _math_name(node.func) is not None
            named = all(keyword.arg is not None for keyword in node.keywords)
            return names_function and named
        if isinstance(node, ast.BinOp):
            return type(node.op) in _BINARY
        if isinstance(node, ast.Dict):
            return all(key is not None for key in node.keys)
        if isinstance(node, ast.Constant):
            return node.value is not ...
        return isinstance(
            node,
            ast.Tuple
            | ast.List
            | ast.Set
            | ast.UnaryOp
            | ast.BoolOp
            | ast.Compare
            | ast.IfExp
            | ast.Subscript
            | ast.Slice,
        )

    def value(self, returned: tuple[Any, ...], tolerance: Tolerance) -> Any:
        """Return the expression's value, given what each of ``calls`` returned."""
        return self._value(self.node, returned, tolerance)

    def _value(
        self, node: ast.expr, returned: tuple[Any, ...], tolerance: Tolerance = _EXACT
    ) -> Any:
        def of(child: ast.expr) -> Any:
            return self._value(child, returned, tolerance)

        match node:
            case ast.Constant():
                return node.value
            case ast.Call() if node in self._position:
                return returned[self._position[node]]
            case ast.Call():
                keywords = {str(keyword.arg): of(keyword.value) for keyword in node.keywords}
                return self._function(node.func)(*map(of, node.args), **keywords)
            case ast.Name():
                return _TYPES[node.id]
            case ast.Attribute():
                return _MATH[node.attr]
            case ast.Tuple():
                return tuple(map(of, node.elts))
            case ast.List():
                return list(map(of, node.elts))
            case ast.Set():
                return set(map(of, node.elts))
            case ast.Dict():
                names = (of(key) for key in node.keys if key is not None)
                return dict(zip(names, map(of, node.values), strict=True))
            case ast.UnaryOp():
                return _UNARY[type(node.op)](of(node.operand))
            case ast.BinOp():
                return _BINARY[type(node.op)](of(node.left), of(node.right))
            case ast.IfExp():
                return of(node.body) if of(node.test) else of(node.orelse)
            case ast.Subscript():
                return of(node.value)[of(node.slice)]
            case ast.Slice():
                parts = (node.lower, node.upper, node.step)
                return slice(*(None if part is None else of(part) for part in parts))
            case ast.BoolOp():
                value: Any = None
                for part in node.values:
                    value = of(part)
                    if bool(value) is isinstance(node.op, ast.Or):
                        break
                return value
            case ast.Compare():
                values = [of(node.left), *map(of, node.comparators)]
                pairs = zip(values, node.ops, values[1:], strict=False)
                return all(_compares(left, op, right, tolerance) for left, op, right in pairs)
        raise NotDataError(type(node).__name__)

    def _function(self, node: ast.expr) -> Callable[..., Any]:
        if isinstance(node, ast.Name):
            return _FUNCTIONS[node.id]
        function = _MATH[_math_name(node) or ""]
        if not callable(function):
            raise TypeError("a number is not callable")
        return function


def _math_name(node: ast.AST) -> str | None:
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return node.attr if node.value.id == "math" and node.attr in _MATH else None
    return None


def _compares(left: Any, op: ast.cmpop, right: Any, tolerance: Tolerance) -> bool:
    if isinstance(op, ast.Eq):
        return is_equal(left, right, tolerance)
    if isinstance(op, ast.NotEq):
        return not is_equal(left, right, tolerance)
    return bool(_ORDER[type(op)](left, right))
