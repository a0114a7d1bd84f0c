"""Tests as they come with a row -> what the sandbox runs, and what is compared out here."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ift_lightning.errors import UserError
from ift_lightning.evaluation.sandbox.comparison import is_expected, short
from ift_lightning.evaluation.sandbox.expressions import Call, Expression, NotDataError
from ift_lightning.evaluation.sandbox.inside.wire import encode
from ift_lightning.evaluation.sandbox.types import Program, Tolerance

_TEST_KEYS = {"args", "kwargs", "expected"}
_CHECK = "check"  # HumanEval's name for the function that takes the candidate


@dataclass(frozen=True)
class CallTest:
    """A call and the value that it has to return."""

    call: Call
    expected: Any

    @property
    def calls(self) -> Sequence[Call]:
        return (self.call,)

    def failure(self, returned: tuple[Any, ...], tolerance: Tolerance) -> str | None:
        """Return what is wrong with the returned value; None where nothing is."""
        if is_expected(returned[0], self.expected, tolerance):
            return None
        return f"{describe(self.call)} returned {short(returned[0])}, not {short(self.expected)}"


@dataclass(frozen=True)
class AssertTest:
    """An assertion over what one or more calls return."""

    expression: Expression

    @property
    def calls(self) -> Sequence[Call]:
        return self.expression.calls

    def failure(self, returned: tuple[Any, ...], tolerance: Tolerance) -> str | None:
        """Return what is wrong with the returned values; None where nothing is."""
        try:
            if self.expression.value(returned, tolerance):
                return None
            reason = "is false"
        except Exception as error:  # a value of a type that the test did not count on
            reason = f"raised {type(error).__name__}: {error}"
        pairs = zip(self.calls, returned, strict=True)
        values = "; ".join(f"{describe(call)} returned {short(value)}" for call, value in pairs)
        return f"assert {self.expression.text[:120]} {reason}: {values}"


@dataclass(frozen=True)
class SourceTest:
    """Test code that runs inside the sandbox, in a process of its own."""

    source: str


Test = CallTest | AssertTest | SourceTest


def describe(call: Call) -> str:
    """Return a call as it would be written, with long arguments cut."""
    arguments = [short(value) for value in call.args]
    arguments += [f"{name}={short(value)}" for name, value in call.kwargs.items()]
    return f"{call.name}({', '.join(arguments)})"


def plan_tests(program: Program) -> list[Test]:
    """Return a program's tests, as data wherever that is possible.

    Raises:
        UserError: A test has none of the known forms, or tests nothing.
    """
    given = program.tests
    if isinstance(given, str):
        given = given.strip() and given
        tests = _from_source(given, program) if given else []
    else:
        tests = [
            test
            for number, item in enumerate(given)
            for test in _from_item(item, f"Program '{program.id}', test {number + 1}", program)
        ]
    if given and not tests:
        raise UserError(
            f"Program '{program.id}': its tests call nothing, so they would pass whatever the code "
            "does. Leave the row out, or give it tests that call the function."
        )
    return tests


def _from_item(item: Any, where: str, program: Program) -> list[Test]:
    if isinstance(item, str):
        return _from_source(item, program)
    if not isinstance(item, Mapping) or "expected" not in item or set(item) - _TEST_KEYS:
        raise UserError(
            f"{where}: a test is an assert statement (a string) or a mapping with 'args', 'kwargs' "
            f"(may be left out) and 'expected'; this one is {short(item)}"
        )
    args, kwargs = item.get("args", ()), item.get("kwargs") or {}
    if not isinstance(args, list | tuple) or not isinstance(kwargs, Mapping):
        raise UserError(f"{where}: 'args' has to be a list, and 'kwargs' a mapping: {short(item)}")
    if not program.entry_point:
        raise UserError(f"{where}: the program has no entry_point, so there is nothing to call")
    call = Call(program.entry_point, tuple(args), dict(kwargs))
    if not _is_sendable(call):
        raise UserError(f"{where}: arguments have to be plain data: {short(item)}")
    return [CallTest(call, item["expected"])]


def _from_source(source: str, program: Program) -> list[Test]:
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise UserError(f"Program '{program.id}': its tests do not parse: {error}") from error
    check = next((node for node in map(_as_check, tree.body) if node is not None), None)
    try:
        if check is None:
            return _from_statements(tree.body, _aliases(program, "candidate"))
        others = [node for node in tree.body if node is not check and not _is_inert(node)]
        if all(_is_call_of_check(node) for node in others):
            return _from_statements(check.body, _aliases(program, check.args.args[0].arg))
    except NotDataError:
        pass
    if check is not None and not any(map(_is_call_of_check, tree.body)):
        source = f"{source}\n\ncheck(candidate)\n"
    return [SourceTest(source)]


def _aliases(program: Program, parameter: str) -> dict[str, str]:
    entry_point = program.entry_point
    return {parameter: entry_point, entry_point: entry_point} if entry_point else {}


def _as_check(node: ast.stmt) -> ast.FunctionDef | None:
    """Return ``node`` where it defines a ``check`` of one parameter."""
    if isinstance(node, ast.FunctionDef) and node.name == _CHECK and len(node.args.args) == 1:
        return node
    return None


def _is_call_of_check(node: ast.stmt) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Call)
        and isinstance(node.value.func, ast.Name)
        and node.value.func.id == _CHECK
    )


def _is_inert(node: ast.stmt) -> bool:
    """Whether a statement of a test does nothing that an assertion in data form needs."""
    if isinstance(node, ast.Import):
        return all(alias.name == "math" and alias.asname is None for alias in node.names)
    if isinstance(node, ast.Assign):
        return all(isinstance(target, ast.Name) for target in node.targets) and [
            target.id for target in node.targets if isinstance(target, ast.Name)
        ] == ["METADATA"]
    return isinstance(node, ast.Pass) or (
        isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    )


def _from_statements(statements: Sequence[ast.stmt], aliases: dict[str, str]) -> list[Test]:
    tests: list[Test] = []
    for node in statements:
        if _is_inert(node):
            continue
        if not isinstance(node, ast.Assert):
            raise NotDataError(type(node).__name__)
        expression = Expression(node.test, aliases)
        if expression.calls:
            if not all(map(_is_sendable, expression.calls)):
                raise NotDataError("an argument that is no data")
            tests.append(AssertTest(expression))
        elif not expression.value((), Tolerance()):
            raise NotDataError("an assertion that never holds")
    return tests


def _is_sendable(call: Call) -> bool:
    """Whether the arguments are plain data; a type, as in ``f(int)``, is none."""

    def refuse(value: Any) -> Any:
        raise NotDataError(type(value).__name__)

    try:
        encode([*call.args, dict(call.kwargs)], refuse)
    except NotDataError:
        return False
    return True
