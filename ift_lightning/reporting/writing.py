"""Writes a report's files that are not pages: CSV, JSON and LaTeX."""

from __future__ import annotations

import csv
import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ift_lightning.reporting.analysis import Analysis
from ift_lightning.reporting.before_after import BeforeAfter, Sample
from ift_lightning.reporting.comparisons import ScoreTable
from ift_lightning.reporting.judgement import JudgementResult, Rate
from ift_lightning.reporting.latex import to_latex
from ift_lightning.reporting.sentences import sentence

COMPARISON_SCHEMA = 1


def write_results_csv(path: Path, analysis: Analysis) -> None:
    """Write a row for each run: arm, factors, seed, costs and every recorded score."""
    runs = [(arm, run) for arm in analysis.arms for run in arm.runs]
    factors = list(dict.fromkeys(key for arm in analysis.arms for key in arm.factors))
    metrics = sorted({name for _, run in runs for name in run.metrics})
    header = [
        "arm", *factors, "seed", "folder", "num_trainable_parameters", "num_steps",
        "num_target_tokens_seen", "train_seconds", "peak_memory_bytes", *metrics,
    ]  # fmt: skip
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        for arm, run in runs:
            performance = run.record["performance"]
            writer.writerow(
                [
                    arm.name, *(arm.factors.get(key, "") for key in factors), run.seed,
                    str(run.folder), run.record["model"].get("num_trainable_parameters", ""),
                    performance.get("num_steps", ""),
                    performance.get("num_target_tokens_seen", ""),
                    performance.get("train_seconds", ""),
                    (performance.get("peak_memory_bytes") or {}).get("train", ""),
                    *(run.metrics.get(name, "") for name in metrics),
                ]
            )  # fmt: skip


def write_comparison_json(path: Path, analysis: Analysis) -> None:
    """Write everything that the report says, for programs."""
    _write_json(
        path,
        {
            "schema": COMPARISON_SCHEMA,
            "title": analysis.title,
            "arms": [
                {
                    "name": arm.name,
                    "factors": dict(arm.factors),
                    "seeds": arm.seeds,
                    "folders": [str(run.folder) for run in arm.runs],
                    "unlike_the_others_in": analysis.fairness.marks(arm.name),
                    "costs": dataclasses.asdict(analysis.costs[arm.name])
                    if arm.name in analysis.costs
                    else None,
                }
                for arm in analysis.arms
            ],
            "left_out": [
                {"folder": str(item.folder), "reason": item.reason} for item in analysis.left_out
            ],
            "fairness": dataclasses.asdict(analysis.fairness),
            "scores": [_table(table) for table in analysis.tables],
            "before_after": [_before_after(item) for item in analysis.before_after],
        },
    )


def _table(table: ScoreTable) -> dict[str, Any]:
    return {
        "metric": table.info.name,
        "label": table.info.label,
        "unit": table.info.unit,
        "higher_is_better": table.info.higher_is_better,
        "num_problems": table.num_problems,
        "num_problems_left_out": table.num_left_out,
        "arms": [dataclasses.asdict(arm) for arm in table.arms],
        "pairs": [
            dataclasses.asdict(pair)
            | {
                "is_detected": pair.is_detected,
                "sentence": sentence(pair, table.info),
                "mcnemar_p_by_seed": {
                    seed: passes.p_value() for seed, passes in (pair.passes_by_seed or {}).items()
                },
            }
            for pair in table.pairs
        ],
    }


def _before_after(item: BeforeAfter) -> dict[str, Any]:
    return {
        "arm": item.arm,
        "metrics": {
            name: {"before": before, "after": after, "difference": after - before}
            for name, (before, after) in item.corpus.items()
        },
        "by_problem": [_table(table) for table in item.tables],
        "changes_by": item.changes_by,
        "changes": dataclasses.asdict(item.changes) if item.changes else None,
        "mean_generated_tokens": {"before": item.mean_tokens[0], "after": item.mean_tokens[1]},
        "samples": [_sample(sample) for sample in item.samples],
    }


def _sample(sample: Sample) -> dict[str, Any]:
    return {
        "id": sample.after.id,
        "outcome": sample.what,
        "prompt": sample.after.prompt,
        "reference": sample.after.reference,
        "before": sample.before.completion,
        "after": sample.after.completion,
        "verdict_before": sample.before.verdict,
        "verdict_after": sample.after.verdict,
        "scores_before": sample.before.scores,
        "scores_after": sample.after.scores,
    }


def write_evaluation_results(path: Path, results: tuple[JudgementResult, ...]) -> None:
    """Write judgements: counts, shares and intervals of each model, and every answer."""
    _write_json(path, {"models": [_judgement(result) for result in results]})


def _judgement(result: JudgementResult) -> dict[str, Any]:
    return {
        "model": result.model,
        "overall": _rate(result.overall),
        "invalid_answers": _rate(result.invalid),
        "majority_baseline": _rate(result.majority),
        "subtypes": {rate.name: _rate(rate) for rate in result.by_subtype},
        "types": {rate.name: _rate(rate) for rate in result.by_class},
        "results": [
            {
                "id": answer.id,
                "subtype": answer.subtype,
                "expected": expected,
                "predicted": given,
                "correct": right,
                "response": answer.completion,
                "reference": answer.reference,
            }
            for answer, expected, given, right in result.answers
        ],
    }


def _rate(rate: Rate) -> dict[str, Any]:
    low, high = rate.interval
    return {
        "correct": rate.num_right,
        "total": rate.num,
        "accuracy": rate.share,
        "interval_95": [low, high],
    }


def write_latex(path: Path, analysis: Analysis) -> None:
    """Write the table of scores for a paper."""
    path.write_text(to_latex(analysis.tables), encoding="utf-8")


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")
