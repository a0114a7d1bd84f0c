"""What every metric has to say about itself."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ift_lightning.errors import UserError, suggest


@dataclass(frozen=True, slots=True)
class MetricResult:
    """Scores of a corpus and of its items.

    Args:
        corpus: Name of a score to its value over all items.
        per_item: The same names, or some of them, to a value for each item; None where an item has
            none.
        details: What belongs to the scores: a signature, counts.
    """

    corpus: dict[str, float]
    per_item: dict[str, list[float | None]] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)


TextMetricFunction = Callable[..., MetricResult]
FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class ScoreDefinition:
    """What a number under a score's name means.

    Args:
        name: In run records, without prefix; ``pass@k`` stands for every k.
        unit: With its range.
        higher_is_better: Direction; None where a score is a yardstick and has none.
        source: Where it is defined; empty where the unit says it all.
    """

    name: str
    unit: str
    higher_is_better: bool | None
    source: str = ""


SCORES: dict[str, ScoreDefinition] = {}
"""Every score that a metric gives, by name."""


def defines_score(
    name: str, *, unit: str, higher_is_better: bool | None, source: str = ""
) -> Callable[[FunctionT], FunctionT]:
    """Note that a function gives the score ``name``; see :class:`ScoreDefinition`."""

    def note(function: FunctionT) -> FunctionT:
        assert name not in SCORES, name
        SCORES[name] = ScoreDefinition(name, unit, higher_is_better, source)
        return function

    return note


def describe_score(name: str) -> ScoreDefinition | None:
    """Return what is known of a score of a run record; None where no metric gives it.

    Args:
        name: With or without its prefix: ``before/test/codebleu/syntax``, ``test/pass@10``.
    """
    parts = name.split("/")
    for start in range(len(parts)):
        short = re.sub(r"^pass@\d+$", "pass@k", "/".join(parts[start:]))
        if short in SCORES:
            return SCORES[short]
    return None


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric of texts against references.

    Args:
        name: As in configs and records.
        function: Called with predictions, references and options.
        unit: Of its scores.
        higher_is_better: Its direction.
        source: Where it is defined.
        needs_language: Whether it takes the programming language as ``language``.
    """

    name: str
    function: TextMetricFunction
    unit: str
    higher_is_better: bool
    source: str
    needs_language: bool = False


METRICS: dict[str, Metric] = {}
"""All metrics of texts, by name."""


def metric(
    name: str,
    *,
    unit: str,
    higher_is_better: bool,
    source: str,
    needs_language: bool = False,
    scores: Sequence[str] = (),
) -> Callable[[TextMetricFunction], TextMetricFunction]:
    """Register a function as the metric ``name``; see :class:`Metric`.

    Args:
        scores: Names of the scores it gives, where there are others than ``name``.
    """

    def register(function: TextMetricFunction) -> TextMetricFunction:
        assert name not in METRICS, name
        METRICS[name] = Metric(name, function, unit, higher_is_better, source, needs_language)
        for score in scores or (name,):
            defines_score(score, unit=unit, higher_is_better=higher_is_better, source=source)(
                function
            )
        return function

    return register


def get_metric(name: str) -> Metric:
    """Return a metric by its name.

    Raises:
        UserError: There is none of that name.
    """
    if name not in METRICS:
        raise UserError(f"There is no metric '{name}'. {suggest(name, METRICS)}")
    return METRICS[name]


def check_pairs(predictions: Sequence[str], references: Sequence[str]) -> None:
    """Refuse lists of different lengths, and empty ones, which have no score.

    Raises:
        ValueError: With both lengths.
    """
    if len(predictions) != len(references):
        raise ValueError(f"{len(predictions)} predictions, but {len(references)} references")
    if not predictions:
        raise ValueError("a score needs one prediction at least")
