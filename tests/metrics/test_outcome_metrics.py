"""pass@k, shares, intervals, losses and judgements, against published and exact values."""

from __future__ import annotations

import math
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.proportion import proportion_confint

from ift_lightning.metrics import (
    LossSum,
    execution_success,
    extraction_failures,
    judgement_accuracy,
    parse_judgement,
    pass_at_k,
    pass_at_ks,
    perplexity,
    share,
    token_losses,
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
        ("判断:\n\n原因：越界", None),
        ("判断：\n有缺陷\n原因：越界", "有缺陷"),
        ("**判断**：有缺陷", "有缺陷"),
        ("判断：**有缺陷**\n", "有缺陷"),
        ("**判断:** 有缺陷", "有缺陷"),
        ("判断结果：【有缺陷】", "有缺陷"),
        ("判断:有缺陷（差一错误）", "有缺陷"),
        ("判断:有缺陷 因为越界", "有缺陷"),
        ("判断:有缺陷!", "有缺陷"),
        ("判断:有缺陷或无缺陷", "有缺陷或无缺陷"),
        ("判断:有缺陷、无缺陷", "有缺陷、无缺陷"),
        ("判断:有缺陷/无缺陷", "有缺陷/无缺陷"),
        ("判断:有缺陷\n判断:无缺陷", "有缺陷"),
        ("Judgement: no defect\n\nReason: x", "no defect"),
        ("Judgment: no defect - it is fine.", "no defect"),
        ('{"judgement": "no defect", "reason": "x"}', "no defect"),
        ('{"judgement": "有缺陷"}', "有缺陷"),
        ("Prejudgement: a", None),
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


def test_a_judgement_counts_only_as_a_whole() -> None:
    references = ["Judgement: no defect", "Judgement: defect"]
    answers = ["Judgement: no idea", "Judgement: not a defect"]
    corpus = judgement_accuracy(answers, references, ["a", "b"]).corpus
    assert (corpus["accuracy"], corpus["invalid_answers"]) == (0.0, 1.0)


def test_case_and_width_of_a_judgement_do_not_count() -> None:
    references = ["judgement: Yes", "judgement: YES", "judgement: no"]
    answers = ["Judgement：ＹＥＳ", "judgement: yes", "JUDGMENT: No."]
    result = judgement_accuracy(answers, references, ["a"] * 3)
    assert result.corpus["accuracy"] == 1.0
    assert result.details["confusion"] == {"Yes": {"Yes": 2}, "no": {"no": 1}}


@settings(max_examples=15, deadline=None)
@given(st.permutations(range(6)))
def test_order_of_judgements_does_not_matter(order) -> None:
    truth = ["判断:是", "判断:否", "判断:是", "判断:是", "判断:否", "判断:是"]
    answers = ["判断:是", "判断:是", "", "判断:否", "判断:否", "判断:是"]
    subtypes = list("aabbcc")
    expected = judgement_accuracy(answers, truth, subtypes)
    result = judgement_accuracy(*([rows[i] for i in order] for rows in (answers, truth, subtypes)))
    assert (result.corpus, result.details) == (expected.corpus, expected.details)


def test_pass_at_ks_is_the_mean_over_problems() -> None:
    result = pass_at_ks([[True, False, False, False, False], [False] * 5], [1, 2])
    assert result.per_item == {
        "pass@1": [pytest.approx(0.2), 0.0],
        "pass@2": [pytest.approx(0.4), 0.0],
    }
    assert result.corpus == {"pass@1": pytest.approx(0.1), "pass@2": pytest.approx(0.2)}
    with pytest.raises(ValueError, match="pass@6 needs 6 samples"):
        pass_at_ks([[False] * 5], [6])
    with pytest.raises(ValueError):
        pass_at_ks([], [1])


def test_shares_of_programs_and_answers() -> None:
    ran, failed = execution_success([True, False]), extraction_failures([True, False, False])
    assert ran.corpus == {"execution_success": 0.5}
    assert ran.per_item == {"execution_success": [1.0, 0.0]}
    assert failed.corpus == {"extraction_failures": 1 / 3}


def test_loss_is_weighted_and_perplexity_is_not() -> None:
    # Two targets of nll 1 and 3, the second with weight 4; an item without targets; one of nll 2.
    items = [LossSum(13.0, 5.0, 1, 2, 4.0), LossSum(), LossSum(2.0, 1.0, 1, 1, 2.0)]
    result = token_losses(items)
    assert result.corpus == {
        "loss": 15 / 6,
        "perplexity": math.exp(6 / 3),
        "token_accuracy": 2 / 3,
    }
    assert result.per_item["loss"] == [13 / 5, None, 2.0]
    assert result.per_item["perplexity"] == [math.exp(2), None, math.exp(2)]
    with pytest.raises(ValueError):
        token_losses([LossSum()])
