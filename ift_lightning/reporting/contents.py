"""What a report says, section by section."""

from __future__ import annotations

from collections.abc import Sequence

from ift_lightning.reporting.analysis import Analysis
from ift_lightning.reporting.before_after import BeforeAfter
from ift_lightning.reporting.cells import Figures, counted, figure_only
from ift_lightning.reporting.comparisons import PairComparison, ScoreTable
from ift_lightning.reporting.detail_sections import (
    before_after_blocks,
    cost_blocks,
    judgement_blocks,
    template_blocks,
)
from ift_lightning.reporting.document import (
    Block,
    Bullets,
    Cell,
    Document,
    Paragraph,
    Section,
    Table,
)
from ift_lightning.reporting.fairness import Kind
from ift_lightning.reporting.score_sections import score_blocks
from ift_lightning.reporting.sentences import number, sentence

_MANY_PAIRS = 12
"""Pairs above which the summary has those of the best arm, and the found differences."""


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
        ("Scores", score_blocks(analysis)),
        ("What it costs", cost_blocks(analysis, figures)),
        ("Learning curves", figure_only(figures, "learning_curves")),
        ("Before and after tuning", before_after_blocks(analysis, figures)),
        ("Judgements", judgement_blocks(analysis, figures)),
        ("Levels of reasoning", figure_only(figures, "reasoning_levels")),
        ("Templates", template_blocks(figures)),
        ("Runs", _runs(analysis)),
        ("How the numbers are made", _methods(analysis)),
    ):
        if blocks:
            sections.append(Section(title, blocks))
    num_runs = sum(len(arm.runs) for arm in analysis.arms)
    subtitle = (
        f"{counted(len(analysis.arms), 'arm')}, {counted(num_runs, 'run')}, "
        f"{counted(len(analysis.left_out), 'run')} left out"
    )
    return Document(analysis.title, subtitle, sections)


def _summary(analysis: Analysis, figures: Figures) -> list[Block]:
    blocks: list[Block] = []
    table = analysis.main
    if table is None and not analysis.before_after:
        return [Paragraph("The runs have no test scores in common.", warns=True)]
    if table is not None and table.pairs:
        found = [pair for pair in table.pairs if pair.is_detected]
        shown: Sequence[PairComparison] = table.pairs
        if len(table.pairs) > _MANY_PAIRS:
            best = table.best.arm
            shown = [p for p in table.pairs if p.is_detected or best in (p.first, p.second)]
            blocks.append(
                Paragraph(
                    f"{len(found)} of {len(table.pairs)} pairs of arms differ detectably on "
                    f"{table.info.label}. Here are those of {best}, which has the best mean"
                    f"{', and those that differ' * bool(found)}; the table of pairs has all."
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
                f"Not a fair comparison without more thought: {', '.join(marked)} had "
                f"{'other' if len(marked) < len(analysis.arms) else 'different'} conditions"
                f"{' than the rest' * (len(marked) < len(analysis.arms))}. The next section says "
                "which.",
                warns=True,
            )
        )
    if analysis.left_out:
        blocks.append(
            Paragraph(
                f"{counted(len(analysis.left_out), 'run')} did not finish, or could not be read, "
                "and count nowhere; the section on runs names them.",
                warns=True,
            )
        )
    return blocks + figure_only(figures, "method_comparison")


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
            f" {counted(len(changes.fixed), 'problem')} fixed, {len(changes.broken)} broken, "
            f"{changes.still_passing} right both times, {changes.still_failing} wrong both times."
        )
    return [text]


def _fairness(analysis: Analysis) -> list[Block]:
    fairness = analysis.fairness
    if len(analysis.arms) < 2 and not (fairness.findings or fairness.same):
        return [Paragraph("There is one arm, so nothing can differ.")]
    blocks: list[Block] = []
    besides = [finding for finding in fairness.findings if not finding.follows]
    options = [item for item in fairness.findings if item.follows and item.kind is Kind.CONFIG]
    free = [item for item in fairness.findings if item.follows and item.kind is not Kind.CONFIG]
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
        also = " and what follows from it" * bool(free)
        blocks.append(Paragraph(f"Nothing differs besides what is compared{also}."))
    for finding in free:
        values = "; ".join(f"{arm}: {value}" for arm, value in finding.values.items())
        blocks.append(
            Paragraph(f"{_capital(finding.aspect)}: {values}. {_capital(finding.consequence)}.")
        )
    if options:
        names = ", ".join(finding.aspect.removeprefix("option ") for finding in options)
        blocks.append(Paragraph(f"These options belong to what is compared, and differ: {names}."))
    if fairness.same:
        blocks.append(Paragraph(f"The same in all arms: {', '.join(fairness.same)}."))
    if fairness.unknown:
        blocks.append(Paragraph(f"Recorded nowhere: {', '.join(fairness.unknown)}."))
    return blocks


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


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
        "Wilson's where each problem has one outcome. It speaks about these very models. The one "
        '"seeds too" adds the variance between seeds, and speaks about other seeds as well.',
        "Per pair: problems are drawn for both arms at once (paired bootstrap). Where arms have "
        "several seeds, the variance between seeds is added, so that the interval speaks about "
        "other seeds too. With one seed it speaks about these very models alone.",
        "One answer a problem and one seed an arm: McNemar's exact test gives the p-value.",
        "Scores that exist once per run, such as losses: Welch's t-test over seeds. The test loss "
        "is the mean over target tokens, each counted once, whatever weights an arm trains with.",
        "p-values are adjusted for all pairs of a table by Holm's method; a difference counts as "
        "detected where the adjusted value is under 0.05.",
        "What was detectable: the true difference that such a comparison finds in 80 % of its "
        "repetitions, at the 5 % level divided by the number of pairs (Holm's first step).",
    ]
    return [Bullets(items), Paragraph("docs/reports.md explains each with its source.")]
