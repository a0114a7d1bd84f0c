"""The section of scores: a table of arms and one of pairs for each."""

from __future__ import annotations

from ift_lightning.reporting.analysis import Analysis
from ift_lightning.reporting.cells import (
    interval_cell,
    marked_name,
    number_cell,
    p_cell,
)
from ift_lightning.reporting.comparisons import PairComparison, ScoreTable
from ift_lightning.reporting.document import Block, Cell, Paragraph, Table
from ift_lightning.reporting.scores import ScoreInfo
from ift_lightning.reporting.sentences import number


def score_blocks(analysis: Analysis) -> list[Block]:
    """Return a table of arms and one of pairs for each score."""
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


def _arms_table(analysis: Analysis, table: ScoreTable) -> Table:
    info = table.info
    over = f" on {table.num_problems} problems" if table.num_problems else ""
    left_out = f"; {table.num_left_out} that not all arms have are left out" * bool(
        table.num_left_out
    )
    return Table(
        f"{info.label} ({info.unit}, {'higher' if info.higher_is_better else 'lower'} is better)"
        f"{over}{left_out}{_item_note(info)}",
        ["arm", "mean", "95 % interval", "interval from", "95 %, seeds too", "spread over seeds",
         "each seed"],
        [
            [
                Cell(marked_name(analysis, arm.arm)),
                number_cell(arm.mean, info.digits),
                interval_cell(arm.low, arm.high, info.digits),
                Cell(arm.interval),
                interval_cell(arm.low_all, arm.high_all, info.digits),
                number_cell(arm.spread, info.digits + 1),
                Cell(", ".join(number(value, info.digits) for value in arm.by_seed)),
            ]
            for arm in table.arms
        ],
    )  # fmt: skip


def _item_note(info: ScoreInfo) -> str:
    if info.item_name in ("bleu", "codebleu", "chrf"):
        return "; the mean over single answers, not the corpus value"
    return ""


def _pairs_table(table: ScoreTable) -> Table:
    info = table.info
    return Table(
        f"Pairs on {info.label}: first minus second",
        ["first", "second", f"difference ({info.points})", "95 % interval", "p",
         "p (Holm)", "test", f"detectable from ({info.points})", "effect size",
         "only first : only second right (McNemar's p), each seed"],
        [
            [
                Cell(pair.first),
                Cell(pair.second),
                number_cell(pair.difference, info.digits),
                interval_cell(pair.low, pair.high, info.digits),
                p_cell(pair.p_value),
                p_cell(pair.p_holm),
                Cell(pair.method),
                _detectable(pair, info),
                Cell(_effect(pair)),
                Cell(_disagreement(pair)),
            ]
            for pair in table.pairs
        ],
    )  # fmt: skip


def _detectable(pair: PairComparison, info: ScoreInfo) -> Cell:
    if pair.power is None:
        return Cell("")
    size = pair.power.detectable
    if size >= info.largest_difference:
        return Cell(f"over {number(info.factor, 0)}", size)
    return number_cell(size, info.digits)


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
    tables = [pair.passes] if pair.passes is not None else (pair.passes_by_seed or {}).values()
    return ", ".join(
        f"{table.only_first} : {table.only_second} ({p_cell(table.p_value()).text})"
        for table in tables
    )
