"""Train and test: disjoint, stratified, seeded, near-duplicates together."""

from __future__ import annotations

from collections import Counter, defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ift_lightning.data.stratified import divide
from ift_lightning.errors import UserError

ROWS = st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 12)), max_size=60)
RATIO = st.floats(0.05, 0.95)


def test_exact_shares_without_duplicates() -> None:
    strata = ["a"] * 100 + ["b"] * 10 + ["c"] * 2
    division = divide(strata, range(112), test_ratio=0.2)
    tests = Counter(stratum for stratum, test in zip(strata, division.is_test, strict=True) if test)
    assert tests == {"a": 20, "b": 2, "c": 1}
    assert division.single == division.without_test == ()


@pytest.mark.parametrize(("to_test", "expected"), [(False, 0), (True, 1)])
def test_a_single_row_is_named_and_goes_where_it_is_sent(to_test: bool, expected: int) -> None:
    strata = ["a"] * 10 + ["lonely"]
    division = divide(strata, range(11), test_ratio=0.2, single_to_test=to_test)
    assert division.single == ("lonely",)
    assert division.is_test[10] is bool(expected)
    assert sum(division.is_test) == 2 + expected


def test_a_stratum_of_large_groups_still_gets_a_test_row() -> None:
    # Ten rows in two groups of five: the share of two rows cannot be met exactly.
    division = divide(["a"] * 10, [0] * 5 + [1] * 5, test_ratio=0.2)
    assert sum(division.is_test) == 5
    assert len(set(division.is_test[:5])) == len(set(division.is_test[5:])) == 1


def test_the_draw_does_not_depend_on_the_order_of_rows() -> None:
    strata, groups = ["ab"[i % 2] for i in range(50)], [str(i) for i in range(50)]
    forward = divide(strata, groups, test_ratio=0.3, seed=4)
    backward = divide(strata[::-1], groups[::-1], test_ratio=0.3, seed=4)
    assert forward.is_test == backward.is_test[::-1]


def test_another_seed_is_another_draw() -> None:
    draws = {divide(["a"] * 40, range(40), test_ratio=0.2, seed=s).is_test for s in range(5)}
    assert len(draws) == 5


@pytest.mark.parametrize("ratio", [0, 1, -0.1, 1.5])
def test_a_share_out_of_range(ratio: float) -> None:
    with pytest.raises(UserError, match="above 0 and below 1"):
        divide(["a"], [0], test_ratio=ratio)


@given(ROWS, RATIO, st.integers(0, 5), st.booleans())
def test_what_always_holds(
    rows: list[tuple[str, int]], ratio: float, seed: int, single_to_test: bool
) -> None:
    strata, groups = [row[0] for row in rows], [row[1] for row in rows]
    division = divide(strata, groups, test_ratio=ratio, seed=seed, single_to_test=single_to_test)
    assert division == divide(
        strata, groups, test_ratio=ratio, seed=seed, single_to_test=single_to_test
    )
    sides: dict[int, set[bool]] = defaultdict(set)
    in_test: Counter[str] = Counter()
    for stratum, group, is_test in zip(strata, groups, division.is_test, strict=True):
        sides[group].add(is_test)
        in_test[stratum] += is_test
    assert all(len(found) == 1 for found in sides.values())
    for stratum, total in Counter(strata).items():
        if stratum in division.single:
            members = {g for s, g in rows if s == stratum}
            assert len(members) == 1
            continue
        assert in_test[stratum] < total
        assert (in_test[stratum] == 0) == (stratum in division.without_test)


@given(st.lists(st.sampled_from("abc"), max_size=60), RATIO, st.integers(0, 5))
def test_shares_are_exact_where_no_rows_are_alike(
    strata: list[str], ratio: float, seed: int
) -> None:
    division = divide(strata, range(len(strata)), test_ratio=ratio, seed=seed)
    in_test = Counter(s for s, test in zip(strata, division.is_test, strict=True) if test)
    for stratum, total in Counter(strata).items():
        if total > 1:
            assert in_test[stratum] == min(max(1, int(total * ratio + 0.5)), total - 1)
    assert division.without_test == ()
