"""What a report says, section by section."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ift_lightning.reporting.analysis import Analysis
from ift_lightning.reporting.before_after import BeforeAfter
from ift_lightning.reporting.comparisons import PairComparison, ScoreTable
from ift_lightning.reporting.document import (
    Block,
    Bullets,
    Cell,
    Document,
    FigureBlock,
    Paragraph,
    SampleBlock,
    Section,
    Table,
)
from ift_lightning.reporting.judgement import JudgementResult, Rate
from ift_lightning.reporting.scores import ScoreInfo
from ift_lightning.reporting.sentences import number, sentence

Figures = Mapping[str, FigureBlock]
"""Figures by file name; one that could not be drawn from these runs is missing."""

_MANY_PAIRS = 12
"""Pairs above which the summary names the found differences alone."""


def build_document(analysis: Analysis, figures: Figures) -> Document:
    """Return the report of an analysis.

    Args:
        analysis: Numbers.
        figures: By file name.
    """
    sections = [
        Section("Summary", _summary(analysis, figures)),
        Section("Are the arms comparable?", _fairness(analysis)),
    ]
    for title, blocks in (
        ("Scores", _scores(analysis)),
        ("What it costs", _costs(analysis, figures)),
        ("Learning curves", _figure_only(figures, "learning_curves")),
        ("Before and after tuning", _before_after(analysis, figures)),
        ("Judgements", _judgements(analysis, figures)),
        ("Levels of reasoning", _figure_only(figures, "reasoning_levels")),
        ("Templates", _templates(figures)),
        ("Runs", _runs(analysis)),
        ("How the numbers are made", _methods(analysis)),
    ):
        if blocks:
            sections.append(Section(title, blocks))
    num_runs = sum(len(arm.runs) for arm in analysis.arms)
    subtitle = (
        f"{_count(len(analysis.arms), 'arm')}, {_count(num_runs, 'run')}, "
        f"{_count(len(analysis.left_out), 'run')} left out"
    )
    return Document(analysis.title, subtitle, sections)


def _count(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _figure_only(figures: Figures, name: str) -> list[Block]:
    return [figures[name]] if name in figures else []


def _summary(analysis: Analysis, figures: Figures) -> list[Block]:
    blocks: list[Block] = []
    table = analysis.main
    if table is None and not analysis.before_after:
        return [Paragraph("The runs have no test scores in common.", warns=True)]
    if table is not None and table.pairs:
        found = [pair for pair in table.pairs if pair.is_detected]
        shown: Sequence[PairComparison] = table.pairs
        if len(table.pairs) > _MANY_PAIRS:
            shown = found
            blocks.append(
                Paragraph(
                    f"{len(found)} of {len(table.pairs)} pairs of arms differ detectably on "
                    f"{table.info.label}. The table of pairs has all of them."
                )
            )
        blocks.append(Bullets([sentence(pair, table.info) for pair in shown]))
    elif table is not None:
        blocks.append(_arms_sentence(table))
    changes = [text for item in analysis.before_after for text in _changes_sentences(item)]
    if changes:
        blocks.append(Bullets(changes))
    marked = [arm.name for arm in analysis.arms if analysis.fairness.marks(arm.name)]
    if marked:
        blocks.append(
            Paragraph(
                f"Not a fair comparison without more thought: {', '.join(marked)} had other "
                "conditions than the rest. The next section says which.",
                warns=True,
            )
        )
    if analysis.left_out:
        blocks.append(
            Paragraph(
                f"{_count(len(analysis.left_out), 'run')} did not finish, or could not be read, "
                "and count nowhere; the section on runs names them.",
                warns=True,
            )
        )
    return blocks + _figure_only(figures, "method_comparison")


def _arms_sentence(table: ScoreTable) -> Paragraph:
    arm, info = table.arms[0], table.info
    text = f"{arm.arm}: {info.label} {number(arm.mean, info.digits)} {info.unit}"
    if arm.low is not None and arm.high is not None:
        text += (
            f" (95 % interval {number(arm.low, info.digits)} to {number(arm.high, info.digits)}, "
            f"{arm.interval})"
        )
    return Paragraph(text + ". There is one arm, so nothing is compared.")


def _changes_sentences(item: BeforeAfter) -> list[str]:
    if not item.tables:
        return []
    table = item.tables[0]
    text = f"{item.arm}, before and after tuning: " + sentence(table.pairs[0], table.info)
    if item.changes is not None:
        changes = item.changes
        text += (
            f" {_count(len(changes.fixed), 'problem')} fixed, {len(changes.broken)} broken, "
            f"{changes.still_passing} right both times, {changes.still_failing} wrong both times."
        )
    return [text]


def _fairness(analysis: Analysis) -> list[Block]:
    fairness = analysis.fairness
    if len(analysis.arms) < 2 and not (fairness.findings or fairness.same):
        return [Paragraph("There is one arm, so nothing can differ.")]
    blocks: list[Block] = []
    besides = [finding for finding in fairness.findings if not finding.follows]
    follows = [finding for finding in fairness.findings if finding.follows]
    if besides:
        blocks.append(
            Table(
                "What differs besides what is compared",
                ["what", "kind", "value of each arm", "what it means"],
                [
                    [
                        Cell(finding.aspect),
                        Cell(finding.kind.value),
                        Cell("; ".join(f"{arm}: {v}" for arm, v in finding.values.items())),
                        Cell(finding.consequence),
                    ]
                    for finding in besides
                ],
            )
        )
    else:
        blocks.append(Paragraph("Nothing differs besides what is compared."))
    if follows:
        names = ", ".join(finding.aspect.removeprefix("option ") for finding in follows)
        blocks.append(Paragraph(f"These options belong to what is compared, and differ: {names}."))
    if fairness.same:
        blocks.append(Paragraph(f"The same in all arms: {', '.join(fairness.same)}."))
    if fairness.unknown:
        blocks.append(Paragraph(f"Recorded nowhere: {', '.join(fairness.unknown)}."))
    return blocks


def _mark(analysis: Analysis, arm: str) -> str:
    return f"{arm} *" if analysis.fairness.marks(arm) else arm


def _scores(analysis: Analysis) -> list[Block]:
    blocks: list[Block] = []
    if any(analysis.fairness.marks(arm.name) for arm in analysis.arms):
        blocks.append(Paragraph("An asterisk marks arms that had other conditions than the rest."))
    for table in analysis.tables:
        blocks.append(_arms_table(analysis, table))
        if table.pairs:
            blocks.append(_pairs_table(table))
    for label, arms in analysis.lacking.items():
        blocks.append(Paragraph(f"No {label} in: {', '.join(arms)}.", warns=True))
    return blocks


def _number_cell(value: float | None, digits: int) -> Cell:
    return Cell("") if value is None else Cell(number(value, digits), value)


def _interval(low: float | None, high: float | None, digits: int) -> Cell:
    if low is None or high is None:
        return Cell("")
    return Cell(f"{number(low, digits)} to {number(high, digits)}")


def _arms_table(analysis: Analysis, table: ScoreTable) -> Table:
    info = table.info
    over = f" on {table.num_problems} problems" if table.num_problems else ""
    left_out = f"; {table.num_left_out} that not all arms have are left out" * bool(
        table.num_left_out
    )
    return Table(
        f"{info.label} ({info.unit}, {'higher' if info.higher_is_better else 'lower'} is better)"
        f"{over}{left_out}{_item_note(info)}",
        ["arm", "mean", "95 % interval", "interval from", "spread over seeds", "each seed"],
        [
            [
                Cell(_mark(analysis, arm.arm)),
                _number_cell(arm.mean, info.digits),
                _interval(arm.low, arm.high, info.digits),
                Cell(arm.interval),
                _number_cell(arm.spread, info.digits + 1),
                Cell(", ".join(number(value, info.digits) for value in arm.by_seed)),
            ]
            for arm in table.arms
        ],
    )


def _item_note(info: ScoreInfo) -> str:
    if info.item_name in ("bleu", "codebleu", "chrf"):
        return "; the mean over single answers, not the corpus value"
    return ""


def _pairs_table(table: ScoreTable) -> Table:
    info = table.info
    return Table(
        f"Pairs on {info.label}: first minus second",
        ["first", "second", f"difference ({info.points})", "95 % interval", "p",
         "p (Holm)", "test", "effect size", "only first : only second right, each seed"],
        [
            [
                Cell(pair.first),
                Cell(pair.second),
                _number_cell(pair.difference, info.digits),
                _interval(pair.low, pair.high, info.digits),
                _p_cell(pair.p_value),
                _p_cell(pair.p_holm),
                Cell(pair.method),
                Cell(_effect(pair)),
                Cell(_disagreement(pair)),
            ]
            for pair in table.pairs
        ],
    )  # fmt: skip


def _p_cell(p_value: float | None) -> Cell:
    if p_value is None:
        return Cell("")
    return Cell("< 0.001" if p_value < 0.001 else f"{p_value:.3f}", p_value)


def _effect(pair: PairComparison) -> str:
    parts = []
    if pair.dz is not None:
        parts.append(f"dz {number(pair.dz, 2)}")
    if pair.h is not None:
        parts.append(f"h {number(pair.h, 2)}")
    if pair.passes is not None:
        parts.append(f"odds {number(pair.passes.odds_ratio(), 2)}")
    return ", ".join(parts)


def _disagreement(pair: PairComparison) -> str:
    if pair.passes is not None:
        return f"{pair.passes.only_first} : {pair.passes.only_second}"
    if pair.passes_by_seed:
        tables = pair.passes_by_seed.values()
        return ", ".join(f"{table.only_first} : {table.only_second}" for table in tables)
    return ""


def _costs(analysis: Analysis, figures: Figures) -> list[Block]:
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
                Cell(_mark(analysis, arm.name)),
                _count_cell(cost.trainable_parameters),
                _count_cell(mean_tokens),
                _number_cell(cost.train_seconds, 1),
                _number_cell(memory, 0),
            ]
        )
    columns = ["arm", "trainable parameters", "target tokens seen", "training time (s)",
               "peak memory (MiB)"]  # fmt: skip
    if all(cell.sort_by is None for row in rows for cell in row):
        return []
    table = Table("Cost of an arm: mean over its seeds", columns, rows)
    return [table, *_figure_only(figures, "costs")]


def _count_cell(value: float | None) -> Cell:
    return Cell("") if value is None else Cell(f"{value:,.0f}", value)


def _before_after(analysis: Analysis, figures: Figures) -> list[Block]:
    blocks: list[Block] = []
    for item in analysis.before_after:
        blocks.append(_before_after_table(item))
        if item.changes is not None:
            for what, ids in (("Fixed", item.changes.fixed), ("Broken", item.changes.broken)):
                blocks.append(Paragraph(f"{what} by {item.arm} ({len(ids)}): {_ids(ids)}"))
    blocks += _figure_only(figures, "comparison")
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
                _number_cell(table.arm("before").mean, digits),
                _number_cell(table.arm("after").mean, digits),
                _number_cell(pair.difference, digits),
                _interval(pair.low, pair.high, digits),
                _p_cell(pair.p_value),
                Cell(pair.method),
            ]
        )
    return Table(
        f"{item.arm} against its base model, on the same problems",
        ["score", "before", "after", "difference", "95 % interval", "p", "test"],
        rows,
    )


def _judgements(analysis: Analysis, figures: Figures) -> list[Block]:
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
                    _count_cell(result.overall.num_right),
                    _count_cell(result.overall.num),
                    _number_cell(100 * result.overall.share, 1),
                    _rate_interval(result.overall),
                    _count_cell(result.invalid.num_right),
                    _number_cell(100 * result.majority.share, 1),
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
        blocks += _figure_only(figures, name)
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


def _templates(figures: Figures) -> list[Block]:
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


def _runs(analysis: Analysis) -> list[Block]:
    rows = [
        [
            Cell(arm.name),
            Cell(str(run.seed), run.seed),
            Cell(str(run.record.get("finished_at") or "")),
            Cell(str(run.record["environment"].get("git_commit") or "")[:12]),
            Cell(str(run.folder)),
        ]
        for arm in analysis.arms
        for run in arm.runs
    ]
    columns = ["arm", "seed", "finished", "source", "folder"]
    blocks: list[Block] = [Table("Runs that count", columns, rows)]
    if analysis.left_out:
        blocks.append(
            Table(
                "Runs that were left out",
                ["folder", "reason"],
                [[Cell(str(item.folder)), Cell(item.reason)] for item in analysis.left_out],
            )
        )
    return blocks


def _methods(analysis: Analysis) -> list[Block]:
    items = [
        "Per arm: the mean over seeds, problems and answers; the spread is the standard deviation "
        "of the seeds' means. The interval is over problems: all answers of all seeds of a problem "
        "are drawn together (10,000 resamples unless told otherwise; expanded percentiles), or "
        "Wilson's where each problem has one outcome.",
        "Per pair: problems are drawn for both arms at once (paired bootstrap). Where arms have "
        "several seeds, the variance between seeds is added, so that the interval speaks about "
        "other seeds too. With one seed it speaks about these very models alone.",
        "One answer a problem and one seed an arm: McNemar's exact test gives the p-value.",
        "Scores that exist once per run, such as losses: Welch's t-test over seeds.",
        "p-values are adjusted for all pairs of a table by Holm's method; a difference counts as "
        "detected where the adjusted value is under 0.05.",
        "What was detectable: the true difference that such a comparison finds in 80 % of its "
        "repetitions, at the 5 % level and before Holm.",
    ]
    return [Bullets(items), Paragraph("docs/reports.md explains each with its source.")]
