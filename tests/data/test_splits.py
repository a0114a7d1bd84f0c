"""Splits follow from ids alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ift_lightning.data.splits import HashSplitter, MbppSplitter
from ift_lightning.errors import UserError
from ift_lightning.types import content_id


def test_golden_splits() -> None:
    # Runs of years apart are comparable only as long as these stand.
    splitter = HashSplitter(0.2, 0.2)
    golden = "rerrrraerrrerarrarrrrere"  # second letters of train, val and test
    assert "".join(splitter.split_of(f"row-{i}")[1] for i in range(24)) == golden


def test_shares_hold_on_average() -> None:
    splitter = HashSplitter(0.1, 0.2)
    found = [splitter.split_of(str(i)) for i in range(20_000)]
    assert found.count("val") / 20_000 == pytest.approx(0.1, abs=0.01)
    assert found.count("test") / 20_000 == pytest.approx(0.2, abs=0.01)


def test_seeds_divide_differently() -> None:
    ids = [str(i) for i in range(2000)]

    def test_ids(seed: int) -> set[str]:
        splitter = HashSplitter(0.0, 0.1, seed)
        return {row for row in ids if splitter.split_of(row) == "test"}

    assert test_ids(0) == test_ids(0)
    # Independent divisions share a tenth of a tenth.
    assert len(test_ids(0) & test_ids(1)) < 60


@given(st.text(), st.integers(2, 1000))
def test_equal_rows_stay_on_one_side(text: str, number: int) -> None:
    splitter = HashSplitter(0.3, 0.3)
    row_id = content_id(text)
    assert splitter.split_of(f"{row_id}#{number}") == splitter.split_of(row_id)


@pytest.mark.parametrize("shape", ["issue#{}", "owner/repo#{}", "#{}", "a#b#{}", "ABCDEF#{}"])
def test_own_ids_with_a_number_sign_are_ids_like_others(shape: str) -> None:
    splitter = HashSplitter(0.25, 0.25)
    found = [splitter.split_of(shape.format(i)) for i in range(400)]
    assert all(60 < found.count(split) < 140 for split in ("val", "test"))


def test_all_or_nothing() -> None:
    ids = [str(i) for i in range(200)]
    assert {HashSplitter(0, 0).split_of(row) for row in ids} == {"train"}
    assert {HashSplitter(1, 0).split_of(row) for row in ids} == {"val"}
    assert {HashSplitter(0, 1).split_of(row) for row in ids} == {"test"}
    HashSplitter(0.5, 0.5)


def test_a_larger_share_keeps_what_the_smaller_one_had() -> None:
    ids = [str(i) for i in range(2000)]
    small, large = HashSplitter(0.0, 0.1), HashSplitter(0.0, 0.2)
    assert {i for i in ids if small.split_of(i) == "test"} < {
        i for i in ids if large.split_of(i) == "test"
    }


@pytest.mark.parametrize("shares", [(-0.1, 0.2), (0.2, -0.1), (0.7, 0.4)])
def test_impossible_shares_are_refused(shares: tuple[float, float]) -> None:
    with pytest.raises(UserError, match="at most 1 together"):
        HashSplitter(*shares)


def test_lone_surrogates_do_not_break_it() -> None:
    assert HashSplitter(0.1, 0.1).split_of("\ud800") in ("train", "val", "test")


def test_mbpp_keeps_its_authors_splits() -> None:
    found = [MbppSplitter().split_of(str(task)) for task in range(1, 975)]
    assert (found.count("test"), found.count("val"), found.count("train")) == (500, 90, 384)
    assert (found[9], found[10], found[509], found[510]) == ("train", "test", "test", "val")
    assert (found[599], found[600]) == ("val", "train")
    for wrong in ("0", "975", "abc", "1a"):
        with pytest.raises(UserError, match=r"data\.split_rule=hash"):
            MbppSplitter().split_of(wrong)
