"""A comparison in a few lines, for a terminal."""

from __future__ import annotations

from ift_lightning.reporting.analysis import Analysis
from ift_lightning.reporting.comparisons import ArmScore, ScoreTable
from ift_lightning.reporting.sentences import number, sentence

_MOST_PAIRS = 6
"""Pairs up to which each gets its sentence; of more, those of the best arm do."""


def summarise(analysis: Analysis) -> list[str]:
    """Return what was left out, the ranking, and what the comparison shows.

    Args:
        analysis: What is known about the arms.
    """
    lines = [f"left out: {item.folder}: {item.reason}" for item in analysis.left_out]
    table = analysis.main
    if table is not None:
        lines += _ranking(analysis, table)
        lines += _pairs(table)
    if len(analysis.arms) <= 2:
        for change in analysis.before_after:
            if change.tables:
                pair, info = change.tables[0].pairs[0], change.tables[0].info
                lines.append(f"{change.arm}: {sentence(pair, info)}")
    lines += [
        f"warning: {arm.name} differs from the other arms in: {', '.join(marks)}"
        for arm in analysis.arms
        if (marks := analysis.fairness.marks(arm.name))
    ]
    return lines


def _ranking(analysis: Analysis, table: ScoreTable) -> list[str]:
    """Return a table of the arms, the best one first, and the base model where it is known."""
    info = table.info
    arms = sorted(table.arms, key=lambda arm: arm.mean, reverse=info.higher_is_better)
    base = analysis.base_score(info)
    names = [arm.arm for arm in arms] + (["before tuning"] if base is not None else [])
    width = max(len(name) for name in names)
    of = f", {table.num_problems} problems" if table.num_problems else ""
    lines = [f"{info.label} ({info.points}{of}):"]
    lines += [f"  {arm.arm:<{width}}  {_value(arm, info.digits)}" for arm in arms]
    if base is not None:
        lines.append(f"  {'before tuning':<{width}}  {number(base, info.digits):>6}")
    return lines


def _value(arm: ArmScore, digits: int) -> str:
    text = f"{number(arm.mean, digits):>6}"
    if arm.low is not None and arm.high is not None:
        text += f"  ({number(arm.low, digits)} to {number(arm.high, digits)})"
    if arm.spread is not None:
        text += f"  seeds: {', '.join(number(value, digits) for value in arm.by_seed)}"
    return text


def _pairs(table: ScoreTable) -> list[str]:
    if len(table.pairs) <= _MOST_PAIRS:
        return [sentence(pair, table.info) for pair in table.pairs]
    best = table.best.arm
    detected = sum(pair.is_detected for pair in table.pairs)
    lines = [
        sentence(pair, table.info) for pair in table.pairs if best in (pair.first, pair.second)
    ]
    return [
        *lines,
        f"{detected} of the {len(table.pairs)} pairs differ detectably; the report has all of them",
    ]
