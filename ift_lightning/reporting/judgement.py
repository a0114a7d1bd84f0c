"""Defect judgement: how often a model judges rightly, by subtype of defect and by class."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ift_lightning.metrics import parse_judgement
from ift_lightning.metrics.outcomes import wilson_interval
from ift_lightning.reporting.predictions import Answer, Predictions

INVALID = "(no judgement)"


@dataclass(frozen=True, slots=True)
class Rate:
    """A share with its counts and its Wilson interval."""

    name: str
    num_right: int
    num: int

    @property
    def share(self) -> float:
        return self.num_right / self.num if self.num else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        return wilson_interval(self.num_right, self.num)


@dataclass(frozen=True, slots=True)
class JudgementResult:
    """Judgements of one model.

    Args:
        model: Its name.
        overall: All answers.
        by_subtype: In the order of the file.
        by_class: By the class that would have been right.
        invalid: Answers without a judgement, or with one that no reference has; they are wrong.
        majority: Right answers of always judging for the more frequent class.
        answers: Each with the right class, the predicted class, and whether they agree.
    """

    model: str
    overall: Rate
    by_subtype: tuple[Rate, ...]
    by_class: tuple[Rate, ...]
    invalid: Rate
    majority: Rate
    answers: tuple[tuple[Answer, str, str, bool], ...]


def is_judgement(predictions: Predictions) -> bool:
    """Whether the reference answers judge."""
    return bool(predictions.answers) and all(
        parse_judgement(answer.reference) is not None for answer in predictions.answers
    )


def judge(model: str, runs: Sequence[Predictions]) -> JudgementResult:
    """Count right judgements of one model, or of several seeds' models together.

    Several seeds answer the same questions, so that intervals over their pooled answers would be
    too narrow: only the first seed's answers are counted here.

    Args:
        model: Name to show.
        runs: Predictions whose references judge; the first is used.
    """
    known = {parse_judgement(answer.reference) for answer in runs[0].answers}
    answers = []
    for answers_of_problem in runs[0].by_problem.values():
        answer = answers_of_problem[0]
        expected = parse_judgement(answer.reference) or ""
        given = parse_judgement(answer.completion)
        given = given if given is not None and given in known else INVALID
        recorded = answer.scores.get("accuracy")
        is_right = given == expected if recorded is None else recorded == 1.0
        answers.append((answer, expected, given, is_right))
    classes = [expected for _, expected, _, _ in answers]
    most = max((classes.count(name) for name in set(classes)), default=0)
    total = len(answers)
    return JudgementResult(
        model=model,
        overall=Rate("all", sum(right for *_, right in answers), total),
        by_subtype=_rates(answers, lambda row: row[0].subtype or "(none)"),
        by_class=_rates(answers, lambda row: row[1]),
        invalid=Rate("invalid", sum(given == INVALID for _, _, given, _ in answers), total),
        majority=Rate("majority", most, total),
        answers=tuple(answers),
    )


def _rates(
    answers: Sequence[tuple[Answer, str, str, bool]],
    key: Callable[[tuple[Answer, str, str, bool]], str],
) -> tuple[Rate, ...]:
    groups: dict[str, list[bool]] = {}
    for row in answers:
        groups.setdefault(key(row), []).append(row[3])
    return tuple(Rate(name, sum(rights), len(rights)) for name, rights in groups.items())
