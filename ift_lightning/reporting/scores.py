"""What each score means, and the scores of arms on the problems that all of them answered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ift_lightning.metrics.outcomes import pass_at_k
from ift_lightning.reporting.predictions import Predictions

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ScoreInfo:
    """How a score is shown.

    Args:
        name: In run records, without prefix ("pass@1").
        label: For axes and tables.
        unit: Of the shown value; "%" is a share of 1 times 100.
        higher_is_better: Direction.
        factor: Shown value = stored value times this.
        item_name: Name among an answer's own scores; None where a single answer has no such score.
        digits: Decimals that are shown.
    """

    name: str
    label: str
    unit: str
    higher_is_better: bool = True
    factor: float = 1.0
    item_name: str | None = None
    digits: int = 1

    @property
    def points(self) -> str:
        """What a difference is counted in."""
        return "points" if self.unit in ("%", "points") else self.unit

    @property
    def largest_difference(self) -> float:
        """How far two shown values can be apart: 100 where they are shares."""
        return self.factor if self.unit == "%" else float("inf")

    @property
    def axis(self) -> str:
        """Label of an axis, with unit and direction."""
        direction = "higher" if self.higher_is_better else "lower"
        return f"{self.label} ({self.unit}, {direction} is better)"


SCORES = (
    ScoreInfo("pass@1", "pass@1", "%", factor=100, item_name="pass"),
    ScoreInfo("pass@10", "pass@10", "%", factor=100, item_name="pass"),
    ScoreInfo("accuracy", "judgement accuracy", "%", factor=100, item_name="accuracy"),
    ScoreInfo("execution_success", "execution success", "%", factor=100,
              item_name="execution_success"),
    ScoreInfo("exact_match", "exact match", "%", factor=100, item_name="exact_match"),
    ScoreInfo("codebleu", "CodeBLEU", "points", factor=100, item_name="codebleu"),
    ScoreInfo("bleu", "BLEU", "points", item_name="bleu"),
    ScoreInfo("rougeL", "ROUGE-L", "points", factor=100, item_name="rougeL"),
    ScoreInfo("chrf", "chrF", "points", item_name="chrf"),
    ScoreInfo("loss", "test loss", "nats per token", higher_is_better=False, digits=4),
    ScoreInfo("token_accuracy", "token accuracy", "%", factor=100),
    ScoreInfo("perplexity", "test perplexity", "per token", higher_is_better=False, digits=3),
)  # fmt: skip
"""Scores that are compared, the main one first."""


def score_info(name: str) -> ScoreInfo:
    """Return what is known of a score ("test/pass@1" or "pass@1")."""
    short = name.rpartition("/")[2]
    for info in SCORES:
        if info.name == short:
            return info
    if short.startswith("pass@"):
        return ScoreInfo(short, short, "%", factor=100, item_name="pass")
    return ScoreInfo(short, short, "as recorded", item_name=short, digits=4)


@dataclass(frozen=True)
class ScoreMatrix:
    """A score of every arm on the same problems.

    Args:
        info: The score.
        problems: Ids, in order.
        values: Arm to float64 [seeds, problems]; an entry is the mean over a problem's answers,
            and of pass@k its estimate. As stored, without ``info.factor``.
        num_left_out: Problems that some arm has and another has not.
        is_binary: Whether each entry is the outcome of one answer, 0 or 1.
    """

    info: ScoreInfo
    problems: tuple[str, ...]
    values: Mapping[str, FloatArray]
    num_left_out: int
    is_binary: bool


def score_matrix(arms: Mapping[str, Sequence[Predictions]], info: ScoreInfo) -> ScoreMatrix | None:
    """Return a score of every arm on the problems that all runs of all arms have it for.

    Args:
        arms: Arm to the predictions of its runs.
        info: The score.

    Returns:
        None where an arm has no answers, or no problem has the score in all arms.
    """
    if info.item_name is None or not arms or not all(arms.values()):
        return None
    tables = {
        name: [_by_problem(predictions, info) for predictions in runs]
        for name, runs in arms.items()
    }
    every = [table for runs in tables.values() for table in runs]
    common = [key for key in every[0] if all(key in table for table in every)]
    if not common:
        return None
    union = set().union(*every)
    values = {
        name: np.array([[table[key] for key in common] for table in runs], dtype=np.float64)
        for name, runs in tables.items()
    }
    single = all(p.num_samples == 1 for runs in arms.values() for p in runs)
    is_binary = single and all(bool(np.isin(array, (0.0, 1.0)).all()) for array in values.values())
    return ScoreMatrix(info, tuple(common), values, len(union) - len(common), is_binary)


def _by_problem(predictions: Predictions, info: ScoreInfo) -> dict[str, float]:
    assert info.item_name is not None
    k = int(info.name[5:]) if info.name.startswith("pass@") else 1
    found = {}
    for problem, answers in predictions.by_problem.items():
        scores = [a.scores[info.item_name] for a in answers if info.item_name in a.scores]
        if len(scores) == len(answers) and len(scores) >= k:
            found[problem] = (
                sum(scores) / len(scores)
                if k == 1
                else pass_at_k(len(scores), sum(score == 1.0 for score in scores), k)
            )
    return found
