"""Tests as data: what is called, and what has to come back.

Assert statements become data where everything in them but the call is a literal. The parent then
judges them; the rest is run inside the sandbox, apart from the program.
"""

from __future__ import annotations

import ast
import enum
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ift_lightning.errors import UserError
from ift_lightning.evaluation.sandbox.inside.wire import Opaque


class Comparison(enum.Enum):
    """How a returned value is held against the expected one."""

    SAME = "same"  # type and value; floats within the tolerance
    EQUAL = "equal"  # as `==` of an assert statement: 1, 1.0 and True are equal
    TRUTHY = "truthy"
    FALSY = "falsy"
    CLOSE = "close"  # absolute difference below `tolerance`


@dataclass(frozen=True, slots=True)
class Expectation:
    """One call and what it has to return."""

    arguments: Sequence[Any]
    keywords: Mapping[str, Any] = field(default_factory=dict)
    expected: Any = None
    comparison: Comparison = Comparison.SAME
    tolerance: float = 0.0
    tolerance_counts: bool = False  # whether a difference of exactly `tolerance` is close


@dataclass(frozen=True, slots=True)
class TestPlan:
    """The tests of a program: all of them data, or all of them statements."""

    expectations: list[Expectation]
    statements: list[str] | None = None

    __test__ = False  # no test of ours, whatever its name

    @property
    def num_tests(self) -> int:
        return len(self.expectations if self.statements is None else self.statements)


def plan_tests(tests: Sequence[Any] | str, entry_point: str) -> TestPlan:
    """Return what a program's tests ask for.

    Args:
        tests: As in :class:`Program`.
        entry_point: Function that is called.

    Raises:
        UserError: A test is none of the known kinds.
    """
    if isinstance(tests, str):
        statements = [_with_check_called(tests, entry_point)]
        found = _from_check(tests, entry_point)
    else:
        if all(isinstance(test, Mapping) for test in tests):
            return TestPlan([_from_mapping(test) for test in tests if isinstance(test, Mapping)])
        statements = list(tests)
        if not all(isinstance(test, str) for test in statements):
            raise UserError("tests have to be all dictionaries, or all assert statements")
        found = _from_statements(statements, entry_point)
    return TestPlan([], statements) if found is None else TestPlan(found)


def _from_mapping(test: Mapping[str, Any]) -> Expectation:
    if "expected" not in test:
        raise UserError("a test needs 'args' and 'expected' (and 'kwargs' where it has any)")
    return Expectation(list(test.get("args") or []), test.get("kwargs") or {}, test["expected"])


def _parse(source: str) -> list[ast.stmt] | None:
    try:
        return ast.parse(source).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _with_check_called(tests: str, entry_point: str) -> str:
    """Return HumanEval's tests with the call of ``check``, which the benchmark adds as well."""
    body = _parse(tests) or []
    defines = any(isinstance(node, ast.FunctionDef) and node.name == "check" for node in body)
    calls = any(
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Call)
        and isinstance(node.value.func, ast.Name)
        and node.value.func.id == "check"
        for node in body
    )
    return f"{tests}\n\ncheck({entry_point})\n" if defines and not calls else tests


def _from_statements(statements: list[str], name: str) -> list[Expectation] | None:
    nodes: list[ast.stmt] = []
    for statement in statements:
        body = _parse(statement)
        if body is None or len(body) != 1:
            return None
        nodes += body
    return _from_nodes(nodes, name)


def _from_check(tests: str, entry_point: str) -> list[Expectation] | None:
    body = _parse(tests)
    if body is None:
        return None
    rest = [node for node in body if not _is_metadata(node)]
    if len(rest) == 1 and isinstance(rest[0], ast.FunctionDef) and rest[0].name == "check":
        parameters = rest[0].args.args
        if len(parameters) != 1:
            return None
        return _from_nodes(rest[0].body, parameters[0].arg)
    return _from_nodes(rest, entry_point)


def _is_metadata(node: ast.stmt) -> bool:
    """Whether this is ``METADATA = {...}``, which HumanEval's tests begin with."""
    return (
        isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and node.targets[0].id == "METADATA"
    )


def _from_nodes(nodes: Sequence[ast.stmt], name: str) -> list[Expectation] | None:
    found = []
    for node in nodes:
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            continue  # a docstring
        if isinstance(node, ast.Assert) and _is_always_true(node.test):
            continue  # `assert True, "..."`, of which HumanEval has many
        expectation = _from_assert(node.test, name) if isinstance(node, ast.Assert) else None
        if expectation is None:
            return None
        found.append(expectation)
    return found or None


def _is_always_true(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is True


def _from_assert(node: ast.expr, name: str) -> Expectation | None:
    if (call := _call(node, name)) is not None:
        return Expectation(*call, comparison=Comparison.TRUTHY)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        call = _call(node.operand, name)
        return None if call is None else Expectation(*call, comparison=Comparison.FALSY)
    if isinstance(node, ast.Compare) and len(node.ops) == 1:
        return _from_comparison(node.left, node.ops[0], node.comparators[0], name)
    return None


def _from_comparison(
    left: ast.expr, operator: ast.cmpop, right: ast.expr, name: str
) -> Expectation | None:
    if isinstance(operator, ast.Lt | ast.LtE):
        return _from_difference(left, right, name, counts=isinstance(operator, ast.LtE))
    if not isinstance(operator, ast.Eq | ast.Is):
        return None
    call, other = _call(left, name), right
    if call is None and isinstance(operator, ast.Eq):
        call, other = _call(right, name), left
    value = _literal(other)
    if call is None or value is _NO_LITERAL:
        return None
    if isinstance(operator, ast.Is):
        # Only singletons are the same object wherever they are made.
        if value is not None and not isinstance(value, bool):
            return None
        return Expectation(*call, expected=value, comparison=Comparison.SAME)
    return Expectation(*call, expected=value, comparison=Comparison.EQUAL)


def _from_difference(
    left: ast.expr, right: ast.expr, name: str, *, counts: bool
) -> Expectation | None:
    """Read ``abs(f(x) - value) < tolerance``."""
    tolerance = _literal(right)
    if not isinstance(tolerance, int | float) or isinstance(tolerance, bool):
        return None
    is_abs = (
        isinstance(left, ast.Call)
        and isinstance(left.func, ast.Name | ast.Attribute)
        and ast.unparse(left.func) in ("abs", "math.fabs")
        and len(left.args) == 1
    )
    inner = left.args[0] if is_abs and isinstance(left, ast.Call) else None
    if not isinstance(inner, ast.BinOp) or not isinstance(inner.op, ast.Sub):
        return None
    call, other = _call(inner.left, name), inner.right
    if call is None:
        call, other = _call(inner.right, name), inner.left
    value = _literal(other)
    if call is None or isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return Expectation(
        *call,
        expected=value,
        comparison=Comparison.CLOSE,
        tolerance=float(tolerance),
        tolerance_counts=counts,
    )


_NO_LITERAL = object()


def _literal(node: ast.expr) -> Any:
    """Return the value of a literal, or ``_NO_LITERAL``."""
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return _NO_LITERAL


def _call(node: ast.expr, name: str) -> tuple[list[Any], dict[str, Any]] | None:
    """Return the arguments of a call of ``name`` where all are literals."""
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
        return None
    if node.func.id != name:
        return None
    arguments = [_literal(argument) for argument in node.args]
    keywords = {word.arg: _literal(word.value) for word in node.keywords if word.arg}
    if len(keywords) != len(node.keywords):
        return None
    if any(value is _NO_LITERAL for value in (*arguments, *keywords.values())):
        return None
    return arguments, keywords


def meets(
    value: Any, expectation: Expectation, *, absolute: float = 0.0, relative: float = 0.0
) -> bool:
    """Whether a returned value is what was expected. Not-a-number is equal to nothing.

    Args:
        value: Decoded, and so of plain types.
        expectation: Of the call.
        absolute: Tolerance of floats for :attr:`Comparison.SAME`.
        relative: The same, as a share of the expected value.
    """
    expected = expectation.expected
    match expectation.comparison:
        case Comparison.TRUTHY:
            return not isinstance(value, Opaque) and bool(value)
        case Comparison.FALSY:
            return not isinstance(value, Opaque) and not value
        case Comparison.EQUAL:
            return bool(value == expected)
        case Comparison.CLOSE:
            if not isinstance(value, int | float):
                return False
            difference = abs(value - expected)
            if expectation.tolerance_counts:
                return difference <= expectation.tolerance
            return difference < expectation.tolerance
        case Comparison.SAME:
            pass

    def close(one: float, other: float) -> bool:
        return math.isclose(one, other, rel_tol=relative, abs_tol=absolute)

    return same(value, expected, close)


def same(value: Any, expected: Any, close: Callable[[float, float], bool]) -> bool:
    """Whether two plain values agree in type and value, floats by ``close``."""
    if type(value) is not type(expected):
        return False
    if isinstance(value, float):
        return close(value, expected)
    if isinstance(value, list | tuple):
        return len(value) == len(expected) and all(
            same(one, other, close) for one, other in zip(value, expected, strict=True)
        )
    if isinstance(value, dict):
        # The order of keys is no part of a dictionary's value; their types are.
        kinds = {(type(key), key) for key in value} == {(type(key), key) for key in expected}
        return kinds and all(same(value[key], expected[key], close) for key in expected)
    if isinstance(value, set | frozenset):
        return {(type(item), item) for item in value} == {(type(item), item) for item in expected}
    return bool(value == expected)
