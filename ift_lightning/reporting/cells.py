"""Cells of a report's tables, and small pieces that its sections share."""

from __future__ import annotations

from collections.abc import Mapping

from ift_lightning.reporting.analysis import Analysis
from ift_lightning.reporting.document import Block, Cell, FigureBlock
from ift_lightning.reporting.sentences import number

Figures = Mapping[str, FigureBlock]
"""Figures by file name; one that could not be drawn from these runs is missing."""


def number_cell(value: float | None, digits: int) -> Cell:
    """Return a number with fixed decimals; empty for None."""
    return Cell("") if value is None else Cell(number(value, digits), value)


def interval_cell(low: float | None, high: float | None, digits: int) -> Cell:
    """Return both ends of an interval; empty where there is none."""
    if low is None or high is None:
        return Cell("")
    return Cell(f"{number(low, digits)} to {number(high, digits)}")


def p_cell(p_value: float | None) -> Cell:
    """Return a p-value with three decimals; empty for None."""
    if p_value is None:
        return Cell("")
    return Cell("< 0.001" if p_value < 0.001 else f"{p_value:.3f}", p_value)


def count_cell(value: float | None) -> Cell:
    """Return a whole number; empty for None."""
    return Cell("") if value is None else Cell(f"{value:,.0f}", value)


def marked_name(analysis: Analysis, arm: str) -> str:
    """Return an arm's name, with an asterisk where it had other conditions than the rest."""
    return f"{arm} *" if analysis.fairness.marks(arm) else arm


def figure_only(figures: Figures, name: str) -> list[Block]:
    """Return a figure as the only block; nothing where it was not drawn."""
    return [figures[name]] if name in figures else []


def counted(count: int, noun: str) -> str:
    """Return "1 run", "2 runs"."""
    return f"{count} {noun}{'' if count == 1 else 's'}"
