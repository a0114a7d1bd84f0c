"""Draws every figure that an analysis has the numbers for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from ift_lightning.reporting.analysis import Analysis
from ift_lightning.reporting.before_after import BeforeAfter
from ift_lightning.reporting.document import FigureBlock
from ift_lightning.reporting.figures.fonts import drawable
from ift_lightning.reporting.figures.rates import Mark, draw_rows, rate_mark
from ift_lightning.reporting.figures.scores import (
    draw_arms,
    draw_costs,
    draw_curves,
    draw_levels,
    has_costs,
)
from ift_lightning.reporting.figures.style import Theme, save_figure
from ift_lightning.reporting.judgement import JudgementResult, Rate
from ift_lightning.reporting.scores import score_info

_OTHER_WEIGHTS = " Arms weigh tokens differently, so that their curves do not compare."
_ACCURACY = "accuracy (%, higher is better)"
_SHOWN_BEFORE_AFTER = ("pass@1", "accuracy", "execution_success", "codebleu", "bleu", "rougeL",
                       "exact_match")  # fmt: skip


class Pictures:
    """Figures of one report.

    Args:
        folder: Where the files go.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.blocks: dict[str, FigureBlock] = {}

    def add(
        self,
        name: str,
        draw: Callable[[Theme], Figure],
        caption: str,
        alt: str,
        legend: dict[str, str] | None = None,
    ) -> None:
        """Draw a figure and keep it under its file name."""
        files = save_figure(self.folder, name, draw, alt=alt, caption=caption)
        self.blocks[name] = FigureBlock(files, legend or {})


def draw_all(analysis: Analysis, folder: Path) -> dict[str, FigureBlock]:
    """Draw the figures of an analysis into a folder; return them by file name."""
    pictures = Pictures(folder)
    _draw_scores(analysis, pictures)
    if analysis.curves:
        curves = analysis.curves
        pictures.add(
            "learning_curves",
            lambda theme: draw_curves(curves, theme),
            "Loss by optimizer step. Thick: mean over seeds; thin: each seed."
            + _OTHER_WEIGHTS * analysis.fairness.differs("loss weights of the target tokens"),
            "Learning curves of all arms",
        )
    if any(item.tables for item in analysis.before_after):
        _draw_before_after(analysis.before_after, pictures)
    if analysis.judgements:
        _draw_judgements(analysis.judgements, pictures)
    return pictures.blocks


def _draw_scores(analysis: Analysis, pictures: Pictures) -> None:
    table = analysis.main
    if table is None:
        return
    if len(table.arms) > 1 or analysis.base_score(table.info) is not None:
        base = analysis.base_score(table.info)
        pictures.add(
            "method_comparison",
            lambda theme: draw_arms(table, theme, base=base),
            f"{table.info.label} of each arm. Dot: mean; thick line: 95 % interval over problems, "
            "of these very models; thin line: over problems and seeds; ticks below: each seed. "
            "Overlapping intervals do not mean that two arms are alike: the "
            "table of pairs compares them on the same problems.",
            f"{table.info.label} of each arm with its interval",
        )
    costs = {arm.arm: analysis.costs[arm.arm] for arm in table.arms if arm.arm in analysis.costs}
    if len(costs) == len(table.arms) > 1 and has_costs(costs):
        pictures.add(
            "costs",
            lambda theme: draw_costs(table, costs, theme),
            "Score against cost. Filled diamonds, joined by the line, are the Pareto front: no "
            "other arm costs less and scores better. Costs are medians over seeds; time and memory "
            "are disturbed by runs that share a machine or a process.",
            f"{table.info.label} against trainable parameters, training time and memory",
        )
    if analysis.levels:
        pictures.add(
            "reasoning_levels",
            lambda theme: draw_levels(analysis.levels, table.info, theme),
            "Score of each level of reasoning against the tokens that an answer takes.",
            f"{table.info.label} by level of reasoning",
        )
    loss = next((item for item in analysis.tables if item.info.name == "loss"), None)
    if analysis.compares_templates and loss is not None:
        pictures.add(
            "template_loss",
            lambda theme: draw_arms(loss, theme),
            f"{loss.info.label} by template. Dot: mean over seeds; ticks: each seed.",
            f"{loss.info.label} of each template",
        )


_MANY_ARMS = 3
"""Arms above which before and after are drawn for the main score alone, with a row for each."""


def _draw_before_after(items: Sequence[BeforeAfter], pictures: Pictures) -> None:
    names = [
        name
        for name in _SHOWN_BEFORE_AFTER
        if any(table.info.name == name for item in items for table in item.tables)
    ]
    if not names:
        return
    series: dict[str, list[Mark | None]]
    axis = "score (% or points of 100, higher is better)"
    if len(items) > _MANY_ARMS:
        rows = [item.arm for item in items]
        axis = score_info(names[0]).axis
        series = {
            "before tuning": [_mark(item, names[0], "before") for item in items],
            "after tuning": [_mark(item, names[0], "after") for item in items],
        }
    else:
        rows = [score_info(name).label for name in names]
        series = {"before tuning": [_mark(items[0], name, "before") for name in names]}
        for item in items:
            label = "after tuning" if len(items) == 1 else f"after: {item.arm}"
            series[label] = [_mark(item, name, "after") for name in names]
    pictures.add(
        "comparison",
        lambda theme: draw_rows(rows, series, theme, axis=axis, limits=(-2, 102)),
        "Scores before and after tuning on the same problems, with 95 % intervals over problems.",
        "Scores before and after tuning",
    )


def _mark(item: BeforeAfter, name: str, which: str) -> Mark | None:
    for table in item.tables:
        if table.info.name == name:
            score = table.arm(which)
            return Mark(score.mean, score.low, score.high)
    return None


def _draw_judgements(models: Sequence[JudgementResult], pictures: Pictures) -> None:
    last = models[-1]
    majority = {"always the majority": 100 * last.majority.share}

    def add(
        name: str,
        rows: Sequence[str],
        series: dict[str, list[Mark | None]],
        caption: str,
        lines: dict[str, float] | None = None,
        axis: str = _ACCURACY,
    ) -> None:
        drawn, legend = drawable(rows)
        pictures.add(
            name,
            lambda theme: draw_rows(drawn, series, theme, axis=axis, limits=(-2, 102), lines=lines),
            f"{caption} First seed of each model. Wilson's 95 % intervals; counts at the right.",
            caption,
            legend,
        )

    add(
        "overall_accuracy_comparison",
        [result.model for result in models],
        {"accuracy": [rate_mark(result.overall) for result in models]},
        "Right judgements of each model.",
        majority,
    )
    subtypes = [rate.name for rate in last.by_subtype]
    add(
        "subtype_accuracy",
        subtypes,
        {last.model: [rate_mark(rate) for rate in last.by_subtype]},
        f"Right judgements of {last.model} by subtype of defect.",
        axis=_ACCURACY.replace("accuracy", f"accuracy of {last.model}", 1),
    )
    add(
        "model_comparison",
        subtypes,
        {result.model: _marks(result.by_subtype, subtypes) for result in models},
        "Right judgements by subtype of defect and model.",
    )
    classes = [rate.name for rate in last.by_class]
    add(
        "type_accuracy_comparison",
        classes,
        {result.model: _marks(result.by_class, classes) for result in models},
        "Right judgements by the judgement that would be right.",
    )


def _marks(rates: Sequence[Rate], names: Sequence[str]) -> list[Mark | None]:
    by_name = {rate.name: rate for rate in rates}
    return [rate_mark(by_name[name]) if name in by_name else None for name in names]
