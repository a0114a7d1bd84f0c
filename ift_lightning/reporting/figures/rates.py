"""Figures of shares and of scores before and after: rows with points and intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from ift_lightning.reporting.figures.style import MARKERS, Theme, mark_rows, new_axes
from ift_lightning.reporting.judgement import Rate


@dataclass(frozen=True, slots=True)
class Mark:
    """A point with its interval, and a few words beside it."""

    value: float
    low: float | None
    high: float | None
    note: str = ""


def rate_mark(rate: Rate) -> Mark:
    """Return a share as a mark in percent, with its counts."""
    low, high = rate.interval
    return Mark(100 * rate.share, 100 * low, 100 * high, f"{rate.num_right}/{rate.num}")


def draw_rows(
    rows: Sequence[str],
    series: Mapping[str, Sequence[Mark | None]],
    theme: Theme,
    *,
    axis: str,
    limits: tuple[float, float] | None = None,
    lines: Mapping[str, float] | None = None,
) -> Figure:
    """Draw marks in rows, each series a little below the one before.

    Args:
        rows: Labels, the first on top.
        series: Name to a mark for each row; None where it has none.
        theme: Colours.
        axis: Label of the axis, with unit and direction.
        limits: Of the axis.
        lines: Label to a value to draw a line at.
    """
    count = len(series)
    step = 0.64 / max(count, 1)
    height = 0.95 + len(rows) * max(0.34, 0.22 * count) + 0.2 * (count > 1)
    figure, axes = new_axes(6.6, height)
    mark_rows(axes, rows)
    for index, (name, marks) in enumerate(series.items()):
        color = theme.color(index)
        for row, mark in enumerate(marks):
            if mark is None:
                continue
            y = row + step * (index - (count - 1) / 2)
            if mark.low is not None and mark.high is not None:
                axes.plot([mark.low, mark.high], [y, y], color=color, linewidth=1.8, zorder=2)
            axes.plot(
                mark.value, y, MARKERS[index % len(MARKERS)], color=color, markersize=5.5, zorder=3
            )
            if mark.note:
                axes.annotate(
                    mark.note, (1.0, y), xycoords=("axes fraction", "data"), xytext=(6, 0),
                    textcoords="offset points", va="center", fontsize=7.5,
                    color=color if count > 1 else theme.muted, annotation_clip=False,
                )  # fmt: skip
        axes.plot([], [], MARKERS[index % len(MARKERS)], color=color, label=name)
    for label, value in (lines or {}).items():
        axes.axvline(value, color=theme.muted, linewidth=1.1, linestyle=(0, (4, 3)), label=label)
    if limits is not None:
        axes.set_xlim(*limits)
    axes.set_xlabel(axis)
    if count > 1 or lines:
        figure.legend(loc="outside upper left", ncols=3, fontsize=8.5)
    return figure
