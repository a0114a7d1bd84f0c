"""Scores of an earlier evaluation do not outlive it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from ift_lightning import assembly
from ift_lightning.config.entry import (
    config_dir,
    register_resolvers,
    register_schema,
    to_dataclass,
)
from ift_lightning.config.schema import TrainConfig
from ift_lightning.finetuning import FineTuning
from ift_lightning.training.callbacks.stopping import StopRequests
from ift_lightning.training.ranks import Ranks

METRICS = {"train/loss": 1.0, "val/loss": 2.0, "test/pass@1": 0.5, "before/test/pass@1": 0.1}
FILES = ("predictions.jsonl", "predictions_before.jsonl")


def config_of(folder: Path, *words: str) -> TrainConfig:
    register_resolvers()
    register_schema("train", TrainConfig)
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        tree = compose("train", [f"run_dir={folder}", "resume=true", *words])
    return to_dataclass(tree, TrainConfig)


def resumed(folder: Path, *words: str, **record: Any) -> FineTuning:
    """Return a run that has taken over the record of one with the default evaluation."""
    first = config_of(folder)
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "checkpoints" / "last.ckpt").touch()
    for name in FILES:
        (folder / name).touch()
    earlier = {
        "resume_fingerprint": assembly.resume_fingerprint(first),
        "evaluation_fingerprint": assembly.evaluation_fingerprint(first),
        "sandbox_fingerprint": assembly.sandbox_fingerprint(first),
        "started_at": "2026-01-01", "metrics": METRICS, "overrides": [],
        "data": {"fingerprint": "rows"}, "model": {"weights_fingerprint": "weights"},
    } | record  # fmt: skip
    (folder / "run.json").write_text(json.dumps(earlier), encoding="utf-8")
    run = FineTuning(config_of(folder, *words), Ranks(), [], StopRequests())
    run._take_over_record()
    return run


@pytest.mark.parametrize(
    "words", [["metrics=text"], ["evaluate=false"], ["sandbox.memory_mib=64"]], ids=str
)
def test_scores_of_another_evaluation_are_dropped(tmp_path: Path, words: list[str]) -> None:
    run = resumed(tmp_path / "a", *words)
    assert run.record.metrics == {"train/loss": 1.0, "val/loss": 2.0}
    assert not [name for name in FILES if (run.folder / name).exists()]


@pytest.mark.parametrize("record", [{}, {"sandbox_fingerprint": None}], ids=["now", "older"])
def test_scores_of_the_same_evaluation_are_kept(tmp_path: Path, record: dict[str, Any]) -> None:
    run = resumed(tmp_path / "a", "sandbox.num_workers=1", **record)
    assert run.record.metrics == METRICS
    assert all((run.folder / name).exists() for name in FILES)
    # Stopped again before its rows are prepared, it still says what its checkpoint was made of.
    assert run.record.data == {"fingerprint": "rows"}
    assert run.record.model == {"weights_fingerprint": "weights"}
