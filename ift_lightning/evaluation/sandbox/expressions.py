"""The expressions that tests are made of, evaluated without ``eval``.

A test such as ``assert sorted(f([3, 1])) == [1, 3]`` needs two things: the value of the call
``f([3, 1])``, which the sandbox gives, and the rest, which is simple enough to be worked out here.
What is not on the short list below raises :class:`NotDataError`, and the test runs in the sandbox.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ift_lightning.evaluation.sandbox.comparison import is_equal
from ift_lightning.evaluation.sandbox.operations import (
    BINARY,
    FUNCTIONS,
    MATH,
    ORDER,
    TYPES,
    UNARY,
)
from ift_lightning.evaluation.sandbox.types import Tolerance

_EXACT = Tolerance()


class NotDataError(Exception):
    """The expression needs more than data and calls of the code under test."""


@dataclass(frozen=True)
class Call:
    """A call of a function of the code under test."""

    name: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


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
        return None if name in FUNCTIONS else name

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
            return node.id in TYPES and node.id not in self._aliases
        if isinstance(node, ast.Attribute):
            return _math_name(node) is not None
        if isinstance(node, ast.Call):
            names_function = isinstance(node.func, ast.Name) or _math_name(node.func) is not None
            named = all(keyword.arg is not None for keyword in node.keywords)
            return names_function and named
        if isinstance(node, ast.BinOp):
            return type(node.op) in BINARY
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
                return TYPES[node.id]
            case ast.Attribute():
                return MATH[node.attr]
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
                return UNARY[type(node.op)](of(node.operand))
            case ast.BinOp():
                return BINARY[type(node.op)](of(node.left), of(node.right))
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
            return FUNCTIONS[node.id]
        function = MATH[_math_name(node) or ""]
        if not callable(function):
            raise TypeError("a number is not callable")
        return function


def _math_name(node: ast.AST) -> str | None:
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return node.attr if node.value.id == "math" and node.attr in MATH else None
    return None


def _compares(left: Any, op: ast.cmpop, right: Any, tolerance: Tolerance) -> bool:
    if isinstance(op, ast.Eq):
        return is_equal(left, right, tolerance)
    if isinstance(op, ast.NotEq):
        return not is_equal(left, right, tolerance)
    return bool(ORDER[type(op)](left, right))
