"""Sections on costs, on before and after, on judgements and templates."""

from __future__ import annotations

from collections.abc import Sequence

from ift_lightning.reporting.analysis import Analysis
from ift_lightning.reporting.before_after import BeforeAfter
from ift_lightning.reporting.cells import (
    Figures,
    count_cell,
    figure_only,
    interval_cell,
    marked_name,
    number_cell,
    p_cell,
)
from ift_lightning.reporting.document import Block, Cell, Paragraph, SampleBlock, Table
from ift_lightning.reporting.judgement import JudgementResult, Rate
from ift_lightning.reporting.sentences import number


def cost_blocks(analysis: Analysis, figures: Figures) -> list[Block]:
    """Return what each arm cost, and the figure of costs."""
    rows = []
    for arm in analysis.arms:
        cost = analysis.costs.get(arm.name)
        if cost is None:
            continue
        tokens = [t for t in arm.values("performance", "num_target_tokens_seen") if t is not None]
        mean_tokens = sum(tokens) / len(tokens) if tokens else None
        memory = None if cost.peak_memory_bytes is None else cost.peak_memory_bytes / 2**20
        rows.append(
            [
                Cell(marked_name(analysis, arm.name)),
                count_cell(cost.trainable_parameters),
                count_cell(mean_tokens),
                number_cell(cost.train_seconds, 1),
                number_cell(memory, 0),
            ]
        )
    columns = ["arm", "trainable parameters", "target tokens seen", "training time (s)",
               "peak memory (MiB)"]  # fmt: skip
    if all(cell.sort_by is None for row in rows for cell in row):
        return []
    table = Table("Cost of an arm: median over its seeds", columns, rows)
    return [table, *figure_only(figures, "costs")]


def before_after_blocks(analysis: Analysis, figures: Figures) -> list[Block]:
    """Return scores before and after, what was fixed and broken, and answers side by side."""
    blocks: list[Block] = []
    for item in analysis.before_after:
        blocks.append(_before_after_table(item))
        if item.changes is not None:
            for what, ids in (("Fixed", item.changes.fixed), ("Broken", item.changes.broken)):
                blocks.append(Paragraph(f"{what} by {item.arm} ({len(ids)}): {_ids(ids)}"))
    blocks += figure_only(figures, "comparison")
    for item in analysis.before_after:
        for sample in item.samples:
            heading = f"{item.arm}: {sample.after.id}"
            heading += f" ({sample.what})" if sample.what else ""
            blocks.append(
                SampleBlock(
                    heading,
                    [
                        ("prompt", sample.after.prompt),
                        ("reference", sample.after.reference),
                        (_labelled("before", sample.before.verdict), sample.before.completion),
                        (_labelled("after", sample.after.verdict), sample.after.completion),
                    ],
                )
            )
    return blocks


def _labelled(label: str, verdict: str | None) -> str:
    return f"{label} ({verdict})" if verdict else label


def _ids(ids: Sequence[str], at_most: int = 40) -> str:
    if not ids:
        return "none"
    more = f", and {len(ids) - at_most} more (comparison.json has all)" * (len(ids) > at_most)
    return ", ".join(ids[:at_most]) + more


def _before_after_table(item: BeforeAfter) -> Table:
    rows = []
    for table in item.tables:
        pair, digits = table.pairs[0], table.info.digits
        rows.append(
            [
                Cell(f"{table.info.label} ({table.info.unit})"),
                number_cell(table.arm("before").mean, digits),
                number_cell(table.arm("after").mean, digits),
                number_cell(pair.difference, digits),
                interval_cell(pair.low, pair.high, digits),
                p_cell(pair.p_value),
                Cell(pair.method),
            ]
        )
    return Table(
        f"{item.arm} against its base model, on the same problems",
        ["score", "before", "after", "difference", "95 % interval", "p", "test"],
        rows,
    )


def judgement_blocks(analysis: Analysis, figures: Figures) -> list[Block]:
    """Return judgements overall, by subtype and by class; nothing where no model judged."""
    if not analysis.judgements:
        return []
    models = analysis.judgements
    blocks: list[Block] = [
        Table(
            "Right judgements, with Wilson's 95 % interval; answers without a judgement are wrong",
            ["model", "right", "of", "accuracy (%)", "95 % interval", "no judgement",
             "always the majority (%)"],
            [
                [
                    Cell(result.model),
                    count_cell(result.overall.num_right),
                    count_cell(result.overall.num),
                    number_cell(100 * result.overall.share, 1),
                    _rate_interval(result.overall),
                    count_cell(result.invalid.num_right),
                    number_cell(100 * result.majority.share, 1),
                ]
                for result in models
            ],
        ),
        _rates_table("By subtype", models, [result.by_subtype for result in models]),
        _rates_table("By right judgement", models, [result.by_class for result in models]),
    ]  # fmt: skip
    for name in (
        "overall_accuracy_comparison", "subtype_accuracy", "model_comparison",
        "type_accuracy_comparison",
    ):  # fmt: skip
        blocks += figure_only(figures, name)
    blocks.append(
        Paragraph("Where an arm has several seeds, counts are those of its first seed; the scores "
                  "above are over all seeds.")
    )  # fmt: skip
    return blocks


def _rate_interval(rate: Rate) -> Cell:
    low, high = rate.interval
    return Cell(f"{number(100 * low, 1)} to {number(100 * high, 1)}")


def _rates_table(
    caption: str, models: Sequence[JudgementResult], rates: Sequence[Sequence[Rate]]
) -> Table:
    names = list(dict.fromkeys(rate.name for group in rates for rate in group))
    rows = []
    for name in names:
        row = [Cell(name)]
        for group in rates:
            rate = next((item for item in group if item.name == name), None)
            row.append(
                Cell("")
                if rate is None
                else Cell(
                    f"{rate.num_right}/{rate.num} = {number(100 * rate.share, 1)} % "
                    f"({_rate_interval(rate).text})",
                    rate.share,
                )
            )
        rows.append(row)
    return Table(caption, ["", *(result.model for result in models)], rows)


def template_blocks(figures: Figures) -> list[Block]:
    """Return the comparison of templates by loss; nothing where they are not compared."""
    if "template_loss" not in figures:
        return []
    return [
        Paragraph(
            "A loss is a mean over target tokens. It compares templates only where both ask for "
            "the same answers in the same tokens; the check above says whether the test rows have "
            "as many target tokens.",
        ),
        figures["template_loss"],
    ]
