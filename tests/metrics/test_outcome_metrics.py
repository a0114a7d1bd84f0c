"""pass@k, shares, intervals, losses and judgements, against published and exact values."""

from __future__ import annotations

import math
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.proportion import proportion_confint

from ift_lightning.metrics import (
    LossSum,
    judgement_accuracy,
    parse_judgement,
    pass_at_k,
    perplexity,
    share,
    wilson_interval,
)


@pytest.mark.parametrize(
    ("n", "c", "k", "expected"),
    [(5, 1, 2, 0.4), (20, 7, 5, 0.91698916), (10, 0, 3, 0.0), (10, 10, 1, 1.0), (4, 2, 3, 1.0)],
)
def test_pass_at_k_of_known_values(n: int, c: int, k: int, expected: float) -> None:
    assert pass_at_k(n, c, k) == pytest.approx(expected, abs=1e-8)


@given(
    st.integers(1, 8).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(1, n)))
)
def test_pass_at_k_is_the_share_of_draws_with_a_correct_one(case) -> None:
    n, c, k = case
    draws = list(combinations(range(n), k))
    assert pass_at_k(n, c, k) == pytest.approx(sum(min(draw) < c for draw in draws) / len(draws))


@pytest.mark.parametrize(("n", "c", "k"), [(5, 0, 6), (5, 1, 0), (5, 6, 1), (5, -1, 1)])
def test_impossible_pass_at_k_raises(n: int, c: int, k: int) -> None:
    with pytest.raises(ValueError):
        pass_at_k(n, c, k)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_is_that_of_statsmodels(case) -> None:
    successes, trials = case
    expected = proportion_confint(successes, trials, method="wilson")
    assert wilson_interval(successes, trials) == pytest.approx(expected, abs=1e-9)


def test_share() -> None:
    assert share([True, False, True, True]) == 0.75
    with pytest.raises(ValueError):
        share([])


def test_losses_add_up_by_weight() -> None:
    total = LossSum(6.0, 3.0, 1, 2) + LossSum(1.0, 1.0, 2, 2)
    assert total.loss == 7 / 4 and total.token_accuracy == 3 / 4
    assert perplexity(total.loss) == math.exp(1.75)
    assert perplexity(1e6) == math.inf
    with pytest.raises(ValueError):
        _ = LossSum().loss


@pytest.mark.parametrize(
    ("answer", "judgement"),
    [
        ("判断:有缺陷\n\n原因：越界", "有缺陷"),
        ("判断： 无缺陷。", "无缺陷"),
        ("  判断 ：误报，因为", "误报"),
        ("Judgement: positive\nreason", "positive"),
        ("JUDGMENT:no", "no"),
        ("有缺陷", None),
        ("判断:\n", None),
        ("", None),
    ],
)
def test_parse_judgement(answer: str, judgement: str | None) -> None:
    assert parse_judgement(answer) == judgement


def test_judgement_accuracy() -> None:
    yes, no = "判断:有缺陷", "判断:无缺陷"
    references = [yes, yes, yes, no]
    predictions = [yes, no, "判断:也许", no]
    result = judgement_accuracy(predictions, references, ["a", "a", "b", "c"])
    assert result.corpus == {
        "accuracy": 0.5,
        "accuracy_macro": pytest.approx((0.5 + 0 + 1) / 3),
        "invalid_answers": 0.25,
        "majority_baseline": 0.75,
    }
    assert result.per_item == {"accuracy": [1.0, 0.0, 0.0, 1.0]}
    assert result.details["confusion"] == {
        "无缺陷": {"无缺陷": 1},
        "有缺陷": {"invalid": 1, "无缺陷": 1, "有缺陷": 1},
    }
    assert result.details["per_subtype"]["a"]["num_items"] == 2
    assert result.details["per_class"]["有缺陷"]["num_correct"] == 1
    assert result.details["interval"] == pytest.approx(proportion_confint(2, 4, method="wilson"))


def test_reference_without_a_judgement_is_named() -> None:
    with pytest.raises(ValueError, match="reference 1 states no judgement"):
        judgement_accuracy(["判断:是"] * 2, ["判断:是", "?"], ["a", "b"])
