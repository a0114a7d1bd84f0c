"""Tests turned into data: which ones, and what they then accept."""

from __future__ import annotations

import math
from typing import Any

import pytest

from ift_lightning.errors import UserError
from ift_lightning.evaluation.sandbox import Program, SandboxLimits
from ift_lightning.evaluation.sandbox.comparison import is_equal, is_expected, short
from ift_lightning.evaluation.sandbox.inside.wire import Opaque
from ift_lightning.evaluation.sandbox.test_plan import (
    AssertTest,
    CallTest,
    SourceTest,
    Test,
    describe,
    plan_tests,
)
from ift_lightning.evaluation.sandbox.types import Tolerance

NAN = math.nan
TOLERANCE = SandboxLimits().tolerance
EXACT = Tolerance()


def plan(tests: Any, entry_point: str = "f") -> list[Test]:
    return plan_tests(Program("row 7", "", entry_point, tests))


def holds(test: str, *returned: Any) -> bool:
    (planned,) = plan([test])
    assert isinstance(planned, AssertTest), "not data"
    return planned.failure(returned, TOLERANCE) is None


@pytest.mark.parametrize(
    ("test", "right", "wrong"),
    [
        ("assert f(1) == 2", (2,), (3,)),
        ("assert f(1) == 2, 'message'", (2,), (3,)),
        ("assert 2 == f(1)", (2,), (3,)),
        ("assert f(1) != 2", (3,), (2,)),
        ("assert f(1)", ([0],), ([],)),
        ("assert not f(1)", (None,), (1,)),
        ("assert f(1) is None", (None,), (0,)),
        ("assert f(1) is True", (True,), (1,)),
        ("assert abs(f(1) - 0.5) < 1e-6", (0.5000001,), (0.50001,)),
        ("assert math.fabs(f(1) - 0.5) <= 0.1", (0.55,), (0.7,)),
        ("assert math.isclose(f(1), 1/3, rel_tol=1e-3)", (0.3334,), (0.34,)),
        ("assert set(f([1, 2])) == set([2, 1])", ([1, 2, 2],), ([1, 3],)),
        ("assert sorted(f(1)) == [1, 2]", ((2, 1),), ([2],)),
        ("assert len(f(1)) == 3 and f(2) == 'x'", ("abc", "x"), ("abc", "y")),
        ("assert f(1)[0] == 5", ([5, 6],), ([6],)),
        ("assert f(1)[:2] == (1, 2)", ((1, 2, 3),), ([1, 2, 3],)),
        ("assert f(1) in (1, 2)", (2,), (3,)),
        ("assert 0 < f(1) <= 3", (3,), (0,)),
        ("assert isinstance(f(1), int)", (1,), (1.0,)),
        ("assert f(1) == [[]] * 3", ([[], [], []],), ([[]],)),
        ("assert f(1) == -2 ** 3 + 0x10 // 3", (-3,), (3,)),
        ("assert f(1) == {'a': (1, {2})}", ({"a": (1, {2})},), ({"a": [1, {2}]},)),
        ("assert f(1) == float('inf')", (math.inf,), (1e308,)),
        ("assert f(1) == (0.1 + 0.2 if True else 1)", (0.3,), (0.31,)),
        ("assert f(x=1, y=[2]) == b'a'", (b"a",), ("a",)),
        ("import math\nassert f(1) == math.pi", (math.pi,), (3.14,)),
    ],
)
def test_assertion_as_data(test: str, right: tuple[Any, ...], wrong: tuple[Any, ...]) -> None:
    assert holds(test, *right)
    assert not holds(test, *wrong)


@pytest.mark.parametrize("value", [NAN, [NAN], {"a": NAN}, (1, [NAN])])
def test_nan_is_never_equal(value: Any) -> None:
    assert not is_equal(value, value, TOLERANCE)
    assert not is_expected(value, value, TOLERANCE)
    assert not holds("assert f(1) == float('nan')", NAN)
    assert holds("assert math.isnan(f(1))", NAN)


@pytest.mark.parametrize(
    "test",
    [
        "for x in range(3):\n    assert f(x) == x",
        "assert f(f(1)) == 1",
        "assert f(*[1]) == 1",
        "assert f(**{'x': 1}) == 1",
        "assert f(1).lower() == 'a'",
        "assert all(f(x) for x in (1, 2))",
        "assert f(lambda x: x) == 1",
        "assert f(int) == 1",
        "assert f(1) == K",
        "assert eval('1') == f(1)",
        "assert __import__('os').getpid() == f(1)",
        "assert f(open('/etc/passwd')) == 1",
        "assert '%s' == f'{f(1)}'",
        "assert f(10 ** 10 ** 10) == 1",
        "assert f([0] * 10 ** 10) == 1",
        "assert f(1 << 10 ** 10) == 1",
        "x = f(1)\nassert x == 2",
        "assert f(1) == (yield_ := 1)",
    ],
)
def test_other_code_is_judged_inside(test: str) -> None:
    if "eval" in test or "__import__" in test or "open" in test:
        # Unknown functions count as the program's own, which has none of that name.
        planned = plan([test])
        assert all(
            isinstance(t, SourceTest) or {c.name for c in t.calls} <= {"f", "eval", "open"}
            for t in planned
        )
        return
    assert plan([test]) == [SourceTest(test)]


@pytest.mark.parametrize(
    "test",
    [
        "assert f(1) == 10 ** 10 ** 10",
        "assert f(1) * 10 ** 9 == 'x'",
        "assert sorted(f(1)) == [1]",
        "assert list(f(1)) == [1]",
        "assert f(1) % (1,) == 'x'",
        "assert f(1)[10] == 7",
        "assert abs(f(1) - 1) < 1",
    ],
)
def test_hostile_values_do_not_hang_or_raise(test: str) -> None:
    for value in ("%1000000000d", range(10**15), [1] * 1000, None, Opaque("F"), 10**5000, NAN):
        assert not holds(test, value)


def test_check_becomes_data() -> None:
    source = (
        "METADATA = {'author': 'x'}\n\ndef check(candidate):\n    '''Doc.'''\n"
        "    # Comment\n    assert candidate([1], 2) == 3, 'text'\n"
        "    assert True, 'always'\n    assert g(4) == candidate(5)\n"
    )
    first, second = plan(source)
    assert isinstance(first, AssertTest) and isinstance(second, AssertTest)
    assert [describe(call) for call in first.calls] == ["f([1], 2)"]
    assert [describe(call) for call in second.calls] == ["g(4)", "f(5)"]
    assert second.failure((1, 1), EXACT) is None
    assert second.failure((1, 2), EXACT) == (
        "assert g(4) == candidate(5) is false: g(4) returned 1; f(5) returned 2"
    )


def test_check_that_is_no_data_is_called_once() -> None:
    source = "def check(candidate):\n    x = candidate(1)\n    assert x\n"
    assert plan(source) == [SourceTest(f"{source}\n\ncheck(candidate)\n")]
    called = f"{source}\ncheck(f)\n"
    assert plan(called) == [SourceTest(called)]


def test_a_function_named_like_a_builtin_is_the_programs() -> None:
    (test,) = plan(["assert sorted([2, 1]) == [1, 2]"], "sorted")
    assert [call.name for call in test.calls] == ["sorted"]
    assert test.failure(([2, 1],), EXACT) is not None


@pytest.mark.parametrize(
    ("tests", "message"),
    [
        ([{"args": [1]}], "row 7.*test 1.*expected"),
        ([{"args": [1], "expected": 1, "result": 2}], "row 7.*test 1"),
        ([{"args": 1, "expected": 1}], "'args' has to be a list"),
        ([{"args": [object()], "expected": 1}], "plain data"),
        ([5], "row 7.*test 1"),
        (["assert f(1) =="], "row 7.*do not parse"),
        (["assert True"], "row 7.*call nothing"),
        ("def check(candidate):\n    pass", "row 7.*call nothing"),
    ],
)
def test_unusable_tests_are_named(tests: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        plan(tests)
    with pytest.raises(UserError, match="entry_point"):
        plan([{"args": [], "expected": 1}], "")


def test_no_tests() -> None:
    assert plan(()) == plan("") == plan("  \n") == []


VALUES: list[Any] = [
    None, True, False, 1, 0, 1.0, 0.0, 2**70, "1", b"1", bytearray(b"1"), 1j, [1], (1,), {1},
    frozenset({1}), {1: 1}, {"1": 1}, [], (), set(), {}, range(3), [[1]], [True], (1.0,), "",
]  # fmt: skip


def test_type_and_value_of_expected_values() -> None:
    for one in range(len(VALUES)):
        for other in range(len(VALUES)):
            actual, expected = VALUES[one], VALUES[other]
            tuple_for_list = isinstance(actual, tuple) and list(actual) == expected
            same_content = repr(list(actual)) == repr(expected) if tuple_for_list else False
            assert is_expected(actual, expected, TOLERANCE) == (one == other or same_content), (
                actual,
                expected,
            )
            assert is_equal(actual, expected, EXACT) == (actual == expected)


def test_expected_values() -> None:
    (test,) = plan([{"args": [1], "kwargs": {"y": "a"}, "expected": [1, [2.0]]}])
    assert isinstance(test, CallTest) and describe(test.call) == "f(1, y='a')"
    assert test.failure(((1, (2.0,)),), TOLERANCE) is None
    assert test.failure(([1, [2]],), TOLERANCE) == "f(1, y='a') returned [1, [2]], not [1, [2.0]]"
    assert not is_expected([1], (1,), TOLERANCE)


def test_tolerance_is_relative_and_absolute() -> None:
    tolerance = Tolerance(absolute=1e-3, relative=1e-6)
    assert is_equal(0.0, 0.0009, tolerance) and not is_equal(0.0, 0.0011, tolerance)
    assert is_equal(1e9, 1e9 + 900, tolerance) and not is_equal(1e9, 1e9 + 1100, tolerance)
    assert is_equal([{"a": 1.0}], [{"a": 1.0009}], tolerance)
    assert is_equal(1 + 0j, 1.0001 + 0j, tolerance) and not is_equal(1j, 1.1j, tolerance)
    assert not is_equal(10**9, 10**9 + 1, tolerance)
    assert not is_equal(10**400, 1.0, tolerance) and not is_equal(math.inf, 1e308, tolerance)
    assert is_equal(math.inf, math.inf, tolerance) and not is_equal(math.inf, -math.inf, tolerance)


def test_opaque_is_equal_to_nothing() -> None:
    for other in (Opaque("A"), 1, [Opaque("A")], None):
        assert not is_equal(Opaque("A"), other, TOLERANCE)
        assert not is_equal(other, Opaque("A"), TOLERANCE)
    assert holds("assert f(1)", Opaque("A")) and not holds("assert f(1)", Opaque("A", truth=False))


def test_short_is_short() -> None:
    for value in ("x" * 10**6, [[1] * 1000] * 1000, 10**10000, {n: n for n in range(10**4)}):
        assert len(short(value)) < 1000
    assert short([1, "a"]) == "[1, 'a']"
