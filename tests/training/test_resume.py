"""A run that was stopped and resumed ends where an uninterrupted one ends, bit for bit."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import make_model
from lightning.pytorch.callbacks import Callback
from tiny_training import VOCABULARY_SIZE, make_run

from ift_lightning.errors import UserError
from ift_lightning.modeling.adapters import adalora_steps, attach_adapter, trainable_tensors
from ift_lightning.training.callbacks.progress import is_step_end
from ift_lightning.training.run import TrainingRun

NUM_STEPS = 10
SETTINGS: dict[str, dict[str, Any]] = {
    "lora": {
        "_target_": "peft.LoraConfig",
        "target_modules": "all-linear",
        "r": 4,
        "lora_dropout": 0.2,
    },
    "adalora": {
        "_target_": "peft.AdaLoraConfig",
        "target_modules": "all-linear",
        "init_r": 6,
        "target_r": 3,
        "lora_dropout": 0.2,
        **adalora_steps(NUM_STEPS, initial_fraction=0.1, final_fraction=0.3, num_allocations=5),
    },
}


class Unplugged(Exception):
    """Stands for a machine that goes away: nothing is saved on the way out."""


class PullThePlug(Callback):
    """Fails in the middle of a step: behind the first micro-batch of step ``step`` + 1."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(
        self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step == self.step and is_step_end(trainer, batch_idx):
            raise Unplugged


def build(method: str, folder: Path, *callbacks: Callback, seed: int = 5, **options: Any) -> Any:
    torch.manual_seed(0)
    model = attach_adapter(
        make_model("llama", VOCABULARY_SIZE, attention_dropout=0.1), SETTINGS[method]
    )
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)
    return make_run(
        model, folder, num_steps=NUM_STEPS, lr=2e-2, extra_callbacks=callbacks, **options
    )


def weights(run: TrainingRun) -> dict[str, torch.Tensor]:
    return {name: item.detach() for name, item in trainable_tensors(run.module.model).items()}


@pytest.mark.parametrize("stop_at", [2, 5, 7])
@pytest.mark.parametrize("method", SETTINGS)
def test_resumed_run_is_the_uninterrupted_one(method: str, stop_at: int, tmp_path: Path) -> None:
    """Stopped between two saves (5, 7) or just behind one (2); steps are cut in two."""
    whole = build(method, tmp_path / "whole")
    whole.fit()
    stopped = build(method, tmp_path / "parts", PullThePlug(stop_at))
    with pytest.raises(Unplugged):
        stopped.fit()
    saved = torch.load(stopped.last_checkpoint, weights_only=False)
    assert saved["global_step"] == stop_at - stop_at % 2
    resumed = build(method, tmp_path / "parts", seed=99)
    resumed.fit(resume=True)
    assert resumed.trainer.global_step == whole.trainer.global_step == NUM_STEPS
    reference = weights(whole)
    for name, item in weights(resumed).items():
        assert torch.equal(item, reference[name]), name
    assert (
        resumed.trainer.callback_metrics["val/loss"] == whole.trainer.callback_metrics["val/loss"]
    )
    assert resumed.progress.num_tokens == whole.progress.num_tokens
    assert resumed.progress.num_target_tokens == whole.progress.num_target_tokens
    best = [
        torch.load(run.folder / "checkpoints" / "best.ckpt", weights_only=False)["global_step"]
        for run in (whole, resumed)
    ]
    assert best[0] == best[1]
    audits = [run.recorder.record.audit["trainability"] for run in (whole, resumed)]
    assert audits[0] == audits[1]
    assert audits[0]["passed"], audits[0]


def test_dropout_is_at_work(tmp_path: Path) -> None:
    """Else the test above would not see random states that are not restored."""
    first, second = (build("lora", tmp_path / str(seed), seed=seed) for seed in (1, 2))
    first.fit()
    second.fit()
    other = weights(second)
    assert any(not torch.equal(item, other[name]) for name, item in weights(first).items())


@pytest.mark.parametrize("method", SETTINGS)
def test_checkpoints_hold_only_what_is_trained(method: str, tmp_path: Path) -> None:
    run = build(method, tmp_path)
    run.fit()
    trained = {f"model.{name}" for name in trainable_tensors(run.module.model)}
    for name in ("best.ckpt", "last.ckpt"):
        checkpoint = torch.load(tmp_path / "checkpoints" / name, weights_only=False)
        assert set(checkpoint["state_dict"]) == trained
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == [
        "best.ckpt",
        "last.ckpt",
    ]


def test_resuming_a_finished_run_trains_no_further(tmp_path: Path) -> None:
    run = build("lora", tmp_path)
    run.fit()
    again = build("lora", tmp_path, seed=7)
    again.fit(resume=True)
    assert again.trainer.global_step == NUM_STEPS
    reference = weights(run)
    assert all(torch.equal(item, reference[name]) for name, item in weights(again).items())


def test_nothing_to_resume_from(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"resume=true: there is no checkpoint at .*last.ckpt"):
        build("lora", tmp_path).fit(resume=True)
