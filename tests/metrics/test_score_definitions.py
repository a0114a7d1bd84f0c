"""Every score that is given says its unit, its direction and its source."""

from __future__ import annotations

import pytest

from ift_lightning.metrics import (
    METRICS,
    SCORES,
    LossSum,
    describe_score,
    execution_success,
    extraction_failures,
    judgement_accuracy,
    pass_at_ks,
    token_losses,
)

LOWER = {"loss", "perplexity", "extraction_failures", "invalid_answers"}


def _given_scores() -> set[str]:
    text = "def f(x):\n    y = x\n    return y"
    results = [item.function([text], [text]) for item in METRICS.values()]
    results += [
        pass_at_ks([[True]], [1]),
        execution_success([True]),
        extraction_failures([False]),
        token_losses([LossSum(1.0, 1.0, 1, 1, 1.0)]),
        judgement_accuracy(["判断:是"], ["判断:是"], [""]),
    ]
    return {name.replace("pass@1", "pass@k") for result in results for name in result.corpus}


def test_scores_that_are_given_are_those_that_are_defined() -> None:
    assert _given_scores() == set(SCORES)


def test_directions() -> None:
    assert {name for name, score in SCORES.items() if score.higher_is_better is False} == LOWER
    assert [name for name, score in SCORES.items() if score.higher_is_better is None] == [
        "majority_baseline"
    ]
    assert all(score.unit for score in SCORES.values())


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("test/pass@10", "pass@k"),
        ("before/test/codebleu/syntax", "codebleu/syntax"),
        ("test/loss", "loss"),
        ("bleu", "bleu"),
        ("test/unheard_of", None),
        ("test/pass@all", None),
    ],
)
def test_scores_of_records_are_described(name: str, expected: str | None) -> None:
    found = describe_score(name)
    assert (found and found.name) == expected
