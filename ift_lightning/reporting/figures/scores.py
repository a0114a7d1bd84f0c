"""Figures of scores: arms side by side, what they cost, and how they learned."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ift_lightning.reporting.comparisons import ArmScore, ScoreTable
from ift_lightning.reporting.figures.labels import place_labels
from ift_lightning.reporting.figures.labels import spread_labels as spread
from ift_lightning.reporting.figures.style import LINES, MARKERS, Theme, mark_rows, new_axes
from ift_lightning.reporting.scores import ScoreInfo


def draw_arms(
    table: ScoreTable, theme: Theme, *, base: float | None = None, axis: str | None = None
) -> Figure:
    """Draw the mean of each arm with its interval, and its seeds beside it; the best on top.

    Args:
        table: Scores.
        theme: Colours.
        base: Score of the base model, for a line.
        axis: Label instead of the score's own.
    """
    arms = sorted(table.arms, key=lambda arm: arm.mean, reverse=table.info.higher_is_better)
    figure, axes = new_axes(6.4, 0.9 + 0.42 * len(arms))
    mark_rows(axes, [arm.arm for arm in arms])
    for row, arm in enumerate(arms):
        if arm.low_all is not None and arm.high_all is not None:
            axes.plot([arm.low_all, arm.high_all], [row, row], color=theme.color(0), linewidth=0.8)
        if arm.low is not None and arm.high is not None:
            axes.plot([arm.low, arm.high], [row, row], color=theme.color(0), linewidth=2.4)
        if len(arm.by_seed) > 1:
            axes.plot(
                arm.by_seed, [row + 0.24] * len(arm.by_seed), "|", color=theme.muted,
                markersize=6, markeredgewidth=1.1,
            )  # fmt: skip
        axes.plot(arm.mean, row, "o", color=theme.color(0), markersize=6.5)
    if base is not None:
        axes.axvline(base, color=theme.muted, linewidth=1.1, linestyle=(0, (4, 3)))
        axes.annotate(
            "base model", (base, 1.0), xycoords=("data", "axes fraction"), xytext=(3, 2),
            textcoords="offset points", color=theme.muted, fontsize=8,
        )  # fmt: skip
    axes.set_xlabel(axis or table.info.axis)
    return figure


@dataclass(frozen=True, slots=True)
class Cost:
    """What an arm costs, the median over its seeds; None where no record says."""

    trainable_parameters: float | None
    train_seconds: float | None
    peak_memory_bytes: float | None


_COSTS = (
    ("trainable_parameters", "trainable parameters (count)", 1.0, True),
    ("train_seconds", "training time (s)", 1.0, False),
    ("peak_memory_bytes", "peak memory in training (MiB)", 2.0**20, False),
)


def pareto_front(
    costs: Sequence[float], scores: Sequence[float], *, higher_is_better: bool
) -> list[int]:
    """Return the positions that no other beats: none costs less or as much and scores better.

    Of equal ones all are kept.
    """
    values = scores if higher_is_better else [-score for score in scores]
    front = []
    for i, (cost, value) in enumerate(zip(costs, values, strict=True)):
        beaten = any(
            other_cost <= cost and other >= value and (other_cost < cost or other > value)
            for other_cost, other in zip(costs, values, strict=True)
        )
        if not beaten:
            front.append(i)
    return sorted(front, key=lambda i: (costs[i], values[i]))


def has_costs(costs: Mapping[str, Cost]) -> bool:
    """Whether any cost is known for all arms."""
    return any(_known(costs, name) for name, *_ in _COSTS)


def _known(costs: Mapping[str, Cost], name: str) -> bool:
    return all(getattr(cost, name) is not None for cost in costs.values())


def draw_costs(table: ScoreTable, costs: Mapping[str, Cost], theme: Theme) -> Figure:
    """Draw the score against what it costs, with the arms that nothing beats marked.

    Args:
        table: Scores.
        costs: Arm to cost.
        theme: Colours.
    """
    kinds = [kind for kind in _COSTS if _known(costs, kind[0])]
    differing = [k for k in kinds if len({getattr(cost, k[0]) for cost in costs.values()}) > 1]
    kinds = differing or kinds
    names = [arm.arm for arm in table.arms]
    labels = names if max(map(len, names)) <= _LONGEST_LABEL else _letters(len(names))
    figure, grid = new_axes(3.5 * len(kinds) + 0.4, 3.7, len(kinds), sharey=True, squeeze=False)
    places = []
    for column, (name, label, divisor, is_log) in enumerate(kinds):
        axes = grid[0][column]
        xs = [getattr(costs[arm.arm], name) / divisor for arm in table.arms]
        _draw_cost(axes, xs, table.arms, table.info, theme, is_log and min(xs) > 0)
        axes.set_xlabel(f"{label}, less is better")
        if column == 0:
            axes.set_ylabel(table.info.axis)
        places.append((axes, xs))
    if labels is not names:
        handles = [
            Line2D([], [], linestyle="", marker=f"${label}$", color=theme.foreground)
            for label in labels
        ]
        columns = 1 if len(kinds) == 1 else 2
        figure.legend(handles, names, loc="outside lower center", ncols=columns, fontsize=8)
    for axes, xs in places:
        ys = [arm.mean for arm in table.arms]
        front = pareto_front(xs, ys, higher_is_better=table.info.higher_is_better)
        line = _stairs([(xs[i], ys[i]) for i in front])
        _label_points(figure, axes, xs, ys, labels, line, theme)
    return figure


_LONGEST_LABEL = 18
"""Characters of a name that has room beside its point; longer ones go into a legend."""


def _letters(count: int) -> list[str]:
    """Return "A", "B", …, "Z", "AA", …"""
    letters = string.ascii_uppercase
    return [letters[i // 26 - 1] * (i >= 26) + letters[i % 26] for i in range(count)]


def _draw_cost(
    axes: Axes,
    xs: Sequence[float],
    arms: Sequence[ArmScore],
    info: ScoreInfo,
    theme: Theme,
    is_log: bool,
) -> None:
    if is_log:
        axes.set_xscale("log")
    ys = [arm.mean for arm in arms]
    front = pareto_front(xs, ys, higher_is_better=info.higher_is_better)
    line = _stairs([(xs[i], ys[i]) for i in front])
    axes.plot(*zip(*line, strict=True), color=theme.color(1), linewidth=1.2, zorder=1)
    for i, arm in enumerate(arms):
        is_front = i in front
        color = theme.color(1) if is_front else theme.color(0)
        if arm.low is not None and arm.high is not None:
            axes.plot([xs[i]] * 2, [arm.low, arm.high], color=color, linewidth=0.9, alpha=0.6)
        axes.plot(
            xs[i], ys[i], MARKERS[2] if is_front else MARKERS[0], color=color, markersize=6.5,
            markerfacecolor=color if is_front else theme.background, zorder=3,
        )  # fmt: skip
    axes.grid()
    axes.margins(x=0.14, y=0.08)


def _stairs(front: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the corners of the front: what is reached at a cost stays reached at higher ones."""
    corners = list(front[:1])
    for (_, earlier), (x, y) in zip(front, front[1:], strict=False):
        corners += [(x, earlier), (x, y)]
    return corners


def _label_points(
    figure: Figure,
    axes: Axes,
    xs: Sequence[float],
    ys: Sequence[float],
    names: Sequence[str],
    line: Sequence[tuple[float, float]],
    theme: Theme,
) -> None:
    """Write names beside points where they cover neither a point, nor a name, nor the line."""
    figure.draw_without_rendering()  # fixes the scales

    def pixels(places: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
        return [(float(x), float(y)) for x, y in axes.transData.transform(list(places))]

    box = axes.get_window_extent()
    scale = figure.dpi / 72
    placements = place_labels(
        pixels(list(zip(xs, ys, strict=True))),
        [(5.4 * scale * len(name), 9 * scale) for name in names],
        (box.x0, box.y0, box.x1, box.y1),
        gap=7 * scale,
        lines=[pixels(line)],
    )
    leader = {
        "arrowstyle": "-",
        "color": theme.muted,
        "linewidth": 0.6,
        "shrinkA": 0,
        "shrinkB": 4,
    }
    for name, x, y, (dx, dy) in zip(names, xs, ys, placements, strict=True):
        is_far = dx * dx + dy * dy > (13 * scale) ** 2
        axes.annotate(
            name, (x, y), xytext=(dx / scale, dy / scale), textcoords="offset points",
            ha="left" if dx >= 0 else "right", va="center", fontsize=8, zorder=4,
            arrowprops=leader if is_far else None,
        )  # fmt: skip


Curve = Sequence[tuple[int, float]]


def draw_curves(curves: Mapping[str, Mapping[str, Sequence[Curve]]], theme: Theme) -> Figure:
    """Draw learning curves: a thin line for each seed, a thick one for the mean of an arm.

    Args:
        curves: Name ("val/loss") to arm to the curve of each seed.
        theme: Colours.
    """
    titles = {"train/loss": "training loss", "val/loss": "validation loss"}
    # Names stand beside the ends of the lines.
    longest = max(len(arm) for arms in curves.values() for arm in arms)
    column_width = max(4.1, 3.2 + 0.075 * longest)
    figure, grid = new_axes(column_width * len(curves) + 0.6, 3.5, len(curves), squeeze=False)
    for column, (name, arms) in enumerate(curves.items()):
        axes = grid[0][column]
        ends = []
        for index, (arm, seeds) in enumerate(arms.items()):
            color = theme.color(index)
            for curve in seeds if len(seeds) > 1 else ():
                axes.plot(*zip(*curve, strict=True), color=color, linewidth=0.6, alpha=0.35)
            mean = _mean_curve(seeds)
            style = LINES[index // len(theme.series) % len(LINES)]
            axes.plot(*zip(*mean, strict=True), color=color, linewidth=1.8, linestyle=style)
            axes.plot(*mean[-1], MARKERS[index % len(MARKERS)], color=color, markersize=5)
            ends.append((arm, mean[-1], color))
        axes.grid()
        axes.set_xlabel("optimizer steps")
        axes.set_ylabel("loss (nats per target token, lower is better)")
        axes.set_title(titles.get(name, name))
        _label_ends(axes, ends)
    return figure


def _mean_curve(seeds: Sequence[Curve]) -> list[tuple[int, float]]:
    """Return the mean over seeds at the steps that all of them have."""
    tables = [dict(curve) for curve in seeds]
    steps = sorted(set.intersection(*(set(table) for table in tables)))
    if not steps:
        return list(seeds[0])
    return [(step, sum(table[step] for table in tables) / len(tables)) for step in steps]


def _label_ends(axes: Axes, ends: Sequence[tuple[str, tuple[int, float], str]]) -> None:
    low, high = axes.get_ylim()
    heights = spread([point[1] for _, point, _ in ends], 0.062 * (high - low))
    lift = max(low - min(heights), 0.0)  # names stay off the axis
    heights = [height + lift for height in heights]
    last = max(point[0] for _, point, _ in ends)
    for (arm, _, color), height in zip(ends, heights, strict=True):
        axes.annotate(
            arm, (last, height), xytext=(8, 0), textcoords="offset points", va="center",
            color=color, fontsize=8, annotation_clip=False,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class LevelPoint:
    """A level of reasoning: what it costs in generated tokens, and its score."""

    level: str
    tokens: float
    score: ArmScore


def draw_levels(points: Sequence[LevelPoint], info: ScoreInfo, theme: Theme) -> Figure:
    """Draw levels of reasoning: score against generated tokens, from less to more reasoning.

    Args:
        points: In the order of the levels.
        info: The score.
        theme: Colours.
    """
    figure, axes = new_axes(5.2, 3.5)
    axes.plot(
        [p.tokens for p in points], [p.score.mean for p in points], color=theme.muted, linewidth=1
    )
    for point in points:
        if point.score.low is not None and point.score.high is not None:
            axes.plot(
                [point.tokens] * 2, [point.score.low, point.score.high], color=theme.color(0),
                linewidth=2,
            )  # fmt: skip
        axes.plot(point.tokens, point.score.mean, "o", color=theme.color(0), markersize=6.5)
    axes.margins(x=0.2)
    axes.grid()
    axes.set_xlabel("generated tokens an answer (mean, less is cheaper)")
    axes.set_ylabel(info.axis)
    places = [(point.tokens, point.score.mean) for point in points]
    xs, ys = [x for x, _ in places], [y for _, y in places]
    _label_points(figure, axes, xs, ys, [point.level for point in points], places, theme)
    return figure
