"""Compares what the arms of a sweep will be given, before any of them is trained.

The checks are those of the report, on records that say what is known beforehand: rows, steps,
target tokens, decoding, base weights, options.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ift_lightning import assembly
from ift_lightning.config.schema import TrainConfig
from ift_lightning.config.sweep_schema import Unfair
from ift_lightning.errors import UserError
from ift_lightning.modeling.loading import weights_fingerprint
from ift_lightning.reporting.arms import group_into_arms
from ift_lightning.reporting.fairness import MARKED, Fairness, check_fairness
from ift_lightning.reporting.runs import Run
from ift_lightning.sweeps.points import Point
from ift_lightning.types import json_fingerprint


def check_points(points: Sequence[Point], what_if: Unfair) -> Fairness | None:
    """Prepare the rows of all points, and say in what the arms differ besides the factor.

    Rows are tokenized here, once for all points that share them.

    Args:
        points: The sweep's points.
        what_if: What to do where they differ.

    Returns:
        The findings; None where nothing was looked at.

    Raises:
        UserError: Rows cannot be used, or the arms differ and ``what_if`` says that this is an
            error.
    """
    if what_if is Unfair.ignore:
        return None
    known: dict[str, dict[str, Any]] = {}
    runs = [Run(point.folder, _foreseen(point, known), point.tree) for point in points]
    fairness = check_fairness(group_into_arms(runs))
    unfair = [
        finding
        for finding in fairness.findings
        if not finding.follows and finding.kind in MARKED and finding.odd_arms
    ]
    if not unfair:
        return fairness
    lines = [
        f"  {finding.aspect}: "
        + "; ".join(f"{arm} {value}" for arm, value in finding.values.items())
        for finding in unfair
    ]
    text = "the arms differ in more than what is compared:\n" + "\n".join(lines)
    if what_if is Unfair.error:
        raise UserError(f"{text}\nsweep.unfair=warn trains them all the same")
    print(f"note: {text}\n(the report names this, too)")
    return fairness


def _foreseen(point: Point, known: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return what a point's record will say, as far as it is known before training."""
    config = point.config
    key = json_fingerprint(
        [
            assembly.plain(getattr(config, name))
            for name in ("model", "data", "data_variant", "cot_level", "template", "loss", "budget")
        ]
        + [config.trainer.max_epochs, config.trainer.max_steps, config.trainer.global_batch_size]
    )
    if key not in known:
        known[key] = _look_at_rows(config)
    rows = known[key]
    try:
        assembly.peft_settings(config, rows["num_steps"])  # AdaLoRA's schedule may not fit
    except UserError as error:
        raise UserError(f"{error}\nin the point {point.name} of the sweep") from error
    return {
        "name": config.name,
        "seed": config.seed,
        "overrides": list(point.overrides),
        "model": {"weights_fingerprint": rows["weights"]},
        "data": rows["data"],
        "metrics": {},
        "performance": {
            "num_steps": rows["num_steps"],
            # Which rows a last, incomplete pass has depends on the seed, and with it this number.
            "num_target_tokens_seen": rows["num_target_tokens"],
        },
        "environment": {},
        "audit": {
            "mask": {"test": {"num_target_tokens": rows["test_target_tokens"]}},
            "evaluation": {"decoding": assembly.evaluation_fingerprint(config)},
        },
    }


def _look_at_rows(config: TrainConfig) -> dict[str, Any]:
    tokenizer = assembly.build_tokenizer(config)
    data = assembly.prepare_data(config, tokenizer, Path(config.run_dir) / "rejected.jsonl")
    planner = assembly.build_planner(config, data)
    num_steps = assembly.number_of_steps(config, planner)
    statistics = {name: split.statistics for name, split in data.splits.items()}
    return {
        "weights": weights_fingerprint(
            config.model.path, config.model.revision, Path(config.data.cache_dir).expanduser()
        ),
        "data": {
            "ids_fingerprint": {name: item.ids_fingerprint for name, item in statistics.items()},
            "num_rejected": data.num_rejected,
        },
        "num_steps": num_steps,
        "num_target_tokens": planner.num_target_tokens(num_steps),
        "test_target_tokens": statistics["test"].num_target_tokens,
    }
