"""The same problems before and after tuning: scores, what was fixed and broken, sample answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ift_lightning.reporting.comparisons import (
    PairComparison,
    ScoreTable,
    adjusted,
    compare_by_problem,
)
from ift_lightning.reporting.predictions import Answer, Predictions
from ift_lightning.reporting.scores import SCORES, ScoreInfo, score_info, score_matrix

BEFORE = "before"
AFTER = "after"


@dataclass(frozen=True, slots=True)
class Changes:
    """Problems whose outcome is another after tuning.

    A problem passes where more than half of its answers of all seeds do.

    Args:
        fixed: Problems that failed before and pass after.
        broken: Problems that passed before and fail after.
        still_passing: How many passed before and pass after.
        still_failing: How many failed before and fail after.
    """

    fixed: tuple[str, ...]
    broken: tuple[str, ...]
    still_passing: int
    still_failing: int


@dataclass(frozen=True, slots=True)
class Sample:
    """An answer before tuning beside the one after."""

    before: Answer
    after: Answer
    what: str  # "fixed", "broken", "passes before and after", …


@dataclass(frozen=True)
class BeforeAfter:
    """One arm against its base model.

    Args:
        arm: Its name.
        tables: A table for each score that both have answers for.
        corpus: Score to its corpus values before and after, means over seeds, in shown units.
        changes: By pass and fail, or by a right judgement; None where nothing is right or wrong.
        changes_by: Name of the score that ``changes`` goes by.
        samples: Some answers side by side.
        mean_tokens: Generated tokens of an answer, before and after.
    """

    arm: str
    tables: tuple[ScoreTable, ...]
    corpus: dict[str, tuple[float, float]]
    changes: Changes | None
    changes_by: str
    samples: tuple[Sample, ...]
    mean_tokens: tuple[float | None, float | None]


def compare_before_after(
    arm: str,
    before: Sequence[Predictions],
    after: Sequence[Predictions],
    seeds: Sequence[int],
    metrics: Sequence[tuple[dict[str, float], dict[str, float]]] = (),
    *,
    num_resamples: int = 10_000,
    num_samples: int = 6,
    num_compared: int = 1,
) -> BeforeAfter:
    """Compare a base model with the models tuned from it.

    Args:
        arm: Name of the tuned models.
        before: Answers of the base model; one file, or one for each seed (they are the same where
            decoding is greedy, and the first is used).
        after: Answers of the tuned models, by seed.
        seeds: Of ``after``.
        metrics: Recorded scores of each seed, before and after, without prefix.
        num_resamples: Of the bootstrap.
        num_samples: Answers to show.
        num_compared: Arms that are held against their base model in one report.
    """
    # Each seed's run measured the same base model: its copies are no replicates.
    base = list(before[:1])
    tables = []
    for info in _infos(before[0], after[0]):
        matrix = score_matrix({AFTER: after, BEFORE: base}, info)
        if matrix is not None:
            tables.append(
                compare_by_problem(
                    matrix, {AFTER: seeds, BEFORE: []}, num_resamples=num_resamples,
                    baseline=BEFORE, num_compared=num_compared,
                )
            )  # fmt: skip
    by = next((t.info for t in tables if t.info.item_name in ("pass", "accuracy")), None)
    by = by or next((t.info for t in tables if t.info.unit == "%"), None)
    return BeforeAfter(
        arm=arm,
        tables=tuple(tables),
        corpus=_corpus(metrics),
        changes=_changes(base, after, by.item_name) if by and by.item_name else None,
        changes_by=by.label if by else "",
        samples=tuple(_samples(base[0], after[0], by, num_samples)),
        mean_tokens=(base[0].mean_tokens(), after[0].mean_tokens()),
    )


def adjust_together(items: Sequence[BeforeAfter]) -> tuple[BeforeAfter, ...]:
    """Return the items with p-values adjusted over all arms, for each score by itself."""
    pairs: dict[str, list[PairComparison]] = {}
    for item in items:
        for table in item.tables:
            pairs.setdefault(table.info.name, []).extend(table.pairs)
    together = {name: iter(adjusted(group)) for name, group in pairs.items()}
    return tuple(
        replace(
            item,
            tables=tuple(
                replace(table, pairs=tuple(next(together[table.info.name]) for _ in table.pairs))
                for table in item.tables
            ),
        )
        for item in items
    )


def _infos(before: Predictions, after: Predictions) -> list[ScoreInfo]:
    names = set(before.score_names()) & set(after.score_names())
    single = min(before.num_samples, after.num_samples)
    found = [
        info
        for info in SCORES
        if info.item_name in names
        and not (info.name.startswith("pass@") and int(info.name[5:]) > single)
    ]
    return found


def _corpus(
    metrics: Sequence[tuple[dict[str, float], dict[str, float]]],
) -> dict[str, tuple[float, float]]:
    found = {}
    names = [
        name
        for name in (metrics[0][1] if metrics else {})
        if all(name in part for pair in metrics for part in pair)
    ]
    for name in names:
        factor = score_info(name).factor
        found[name] = (
            factor * sum(pair[0][name] for pair in metrics) / len(metrics),
            factor * sum(pair[1][name] for pair in metrics) / len(metrics),
        )
    return found


def _passes(runs: Sequence[Predictions], name: str) -> dict[str, bool]:
    """Return whether more than half of a problem's answers are right, over all runs."""
    scores: dict[str, list[float]] = {}
    for predictions in runs:
        for problem, answers in predictions.by_problem.items():
            scores.setdefault(problem, []).extend(
                answer.scores[name] for answer in answers if name in answer.scores
            )
    return {key: sum(values) / len(values) > 0.5 for key, values in scores.items() if values}


def _changes(before: Sequence[Predictions], after: Sequence[Predictions], name: str) -> Changes:
    earlier, later = _passes(before, name), _passes(after, name)
    common = [key for key in earlier if key in later]
    return Changes(
        fixed=tuple(key for key in common if not earlier[key] and later[key]),
        broken=tuple(key for key in common if earlier[key] and not later[key]),
        still_passing=sum(earlier[key] and later[key] for key in common),
        still_failing=sum(not earlier[key] and not later[key] for key in common),
    )


_ORDER = ("fixed", "broken", "right before and after", "wrong before and after", "")


def _samples(
    before: Predictions, after: Predictions, by: ScoreInfo | None, at_most: int
) -> list[Sample]:
    """Return answers side by side, of each outcome in turn, in the order of the file."""
    groups: dict[str, list[Sample]] = {}
    for problem, answers in after.by_problem.items():
        earlier = before.by_problem.get(problem)
        if earlier:
            what = _outcome(earlier[0], answers[0], by)
            groups.setdefault(what, []).append(Sample(earlier[0], answers[0], what))
    picked: list[Sample] = []
    position = 0
    while len(picked) < at_most and any(position < len(group) for group in groups.values()):
        for what in _ORDER:
            if position < len(groups.get(what, ())) and len(picked) < at_most:
                picked.append(groups[what][position])
        position += 1
    return sorted(picked, key=lambda sample: _ORDER.index(sample.what))


def _outcome(before: Answer, after: Answer, by: ScoreInfo | None) -> str:
    if by is None or by.item_name is None:
        return ""
    if by.item_name not in before.scores or by.item_name not in after.scores:
        return ""
    was, now = before.scores[by.item_name] > 0.5, after.scores[by.item_name] > 0.5
    if was == now:
        return "right before and after" if now else "wrong before and after"
    return "fixed" if now else "broken"
