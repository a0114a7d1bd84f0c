"""Assert statements become data where they can, and mean what they meant."""

from __future__ import annotations

import math

import pytest

from ift_lightning.errors import UserError
from ift_lightning.evaluation.sandbox.expectations import (
    Comparison,
    Expectation,
    meets,
    plan_tests,
)
from ift_lightning.evaluation.sandbox.inside.wire import Opaque

CHECK = '''
METADATA = {"author": "x"}

def check(candidate):
    """Tests."""
    assert candidate([1.0, 2.0], 0.3) == True
    assert candidate([], k=2) == [], "message"
    assert True, "always"
    assert not candidate(3)
'''


def test_check_becomes_data() -> None:
    plan = plan_tests(CHECK, "f")
    assert plan.statements is None
    assert [list(item.arguments) for item in plan.expectations] == [[[1.0, 2.0], 0.3], [[]], [3]]
    assert plan.expectations[1].keywords == {"k": 2}
    assert [item.comparison for item in plan.expectations] == [
        Comparison.EQUAL, Comparison.EQUAL, Comparison.FALSY,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("statement", "comparison", "expected"),
    [
        ("assert f(1) == (1, 2)", Comparison.EQUAL, (1, 2)),
        ("assert {'a': 1} == f(1)", Comparison.EQUAL, {"a": 1}),
        ("assert f(1) is None", Comparison.SAME, None),
        ("assert f(1)", Comparison.TRUTHY, None),
        ("assert not f(1)", Comparison.FALSY, None),
        ("assert abs(f(1) - 0.5) < 1e-6", Comparison.CLOSE, 0.5),
        ("assert math.fabs(2 - f(1)) <= 1", Comparison.CLOSE, 2),
    ],
)
def test_forms(statement: str, comparison: Comparison, expected) -> None:
    (item,) = plan_tests([statement], "f").expectations
    assert (item.comparison, item.expected) == (comparison, expected)
    assert list(item.arguments) == [1]


@pytest.mark.parametrize(
    "statement",
    [
        "assert f(1) == g(1)", "assert f(x) == 1", "assert f(1) != 2", "assert set(f(1)) == {1}",
        "x = 1", "assert f(1) == 1; assert f(2) == 2", "assert f(*[1]) == 1", "assert f(1) is 5",
        "for i in range(3): assert f(i) == i", "assert f(", "assert h(1) == 1",
    ],
)  # fmt: skip
def test_what_is_no_data_stays_a_statement(statement: str) -> None:
    plan = plan_tests(["assert f(1) == 1", statement], "f")
    assert plan.statements == ["assert f(1) == 1", statement] and not plan.expectations


def test_check_that_is_no_data_is_called() -> None:
    loop = "def check(candidate):\n    for i in range(3):\n        assert candidate(i) == i\n"
    assert plan_tests(loop, "f").statements == [f"{loop}\n\ncheck(f)\n"]
    called = f"{loop}\ncheck(f)\n"
    assert plan_tests(called, "f").statements == [called]


def test_unknown_kinds_are_refused() -> None:
    for tests in ([1], [{"args": [1], "expected": 1}, "assert f(1)"], [{"args": [1]}]):
        with pytest.raises(UserError):
            plan_tests(tests, "f")


def met(value, expected, comparison=Comparison.SAME, **options) -> bool:
    item = Expectation([], expected=expected, comparison=comparison, **options)
    return meets(value, item, absolute=1e-9, relative=1e-6)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1, True), (1.0, 1), ([1], (1,)), ([1, True], [1, 1]), ({1: 2}, {True: 2}), ({1.0}, {1}),
        (math.nan, math.nan), ([math.nan], [math.nan]), (1.001, 1.0), ("1", 1), (None, False),
        ([1, 2], [1]), ({"a": 1}, {"a": 1, "b": 2}),
    ],
)  # fmt: skip
def test_another_type_or_value_is_not_the_same(value, expected) -> None:
    assert not met(value, expected)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.1 + 0.2, 0.3), ([1, (2.0, "x")], [1, (2.0, "x")]), ({1, 2}, {2, 1}),
        ({"b": 1, "a": [0.5]}, {"a": [0.5], "b": 1}), (math.inf, math.inf),
    ],
)  # fmt: skip
def test_the_same(value, expected) -> None:
    assert met(value, expected)


def test_asserts_compare_as_python_does() -> None:
    assert met(1.0, 1, Comparison.EQUAL) and met(True, 1, Comparison.EQUAL)
    assert not met([1], (1,), Comparison.EQUAL)
    assert not met(0.1 + 0.2, 0.3, Comparison.EQUAL)
    assert not met(math.nan, math.nan, Comparison.EQUAL)
    assert met(0.5, 1, Comparison.CLOSE, tolerance=0.5, tolerance_counts=True)
    assert not met(0.5, 1, Comparison.CLOSE, tolerance=0.5)
    assert not met(math.nan, 1, Comparison.CLOSE, tolerance=0.5)
    assert not met(Opaque("object"), None, Comparison.TRUTHY)
    assert not met(Opaque("object"), None, Comparison.FALSY)
