"""A budget of seconds, on a clock that the test turns: what counts, what does not, when it ends."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from conftest import make_model
from tiny_training import VOCABULARY_SIZE, make_run, randomize_adapter

from ift_lightning.modeling.adapters import attach_adapter, trainable_tensors
from ift_lightning.training.callbacks import progress
from ift_lightning.training.run import TrainingRun

LORA = {"_target_": "peft.LoraConfig", "r": 2, "target_modules": "all-linear"}
Make = Callable[..., TrainingRun]


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Make:
    """Return a function that makes runs in which a micro-batch takes exactly one second."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(progress, "time", SimpleNamespace(perf_counter=lambda: clock.now))

    def taking(seconds: float, function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **keywords: Any) -> Any:
            result = function(*arguments, **keywords)
            clock.now += seconds
            return result

        return wrapped

    def build(max_seconds: float, folder: str = "run", **changes: Any) -> TrainingRun:
        torch.manual_seed(0)
        model = attach_adapter(make_model("llama", VOCABULARY_SIZE), LORA)
        randomize_adapter(model)
        settings: dict[str, Any] = {
            "val_every_n_steps": 3,
            "save_every_n_steps": 1,
            "log_every_n_steps": 1000,
            **changes,
        }
        run = make_run(
            model,
            tmp_path / folder,
            num_steps=1_000_000_000,
            scheduler="constant",
            max_seconds=max_seconds,
            **settings,
        )
        module: Any = run.module
        module.training_step = taking(1, module.training_step)
        module.validation_step = taking(100, module.validation_step)
        run.trainer.save_checkpoint = taking(1000, run.trainer.save_checkpoint)  # type: ignore[method-assign]
        return run

    return build


def weights_of(run: TrainingRun) -> dict[str, torch.Tensor]:
    return {name: item.detach().clone() for name, item in trainable_tensors(run.module).items()}


def test_the_run_ends_at_the_first_step_behind_its_seconds(make: Make) -> None:
    run = make(7.0)
    run.fit()
    # Two micro-batches of a second each make a step: the fourth one ends after 8 seconds.
    assert run.trainer.global_step == 4
    assert run.progress.train_seconds == 8.0
    performance = run.recorder.record.performance
    assert (performance["num_steps"], performance["train_seconds"]) == (4, 8.0)


@pytest.mark.parametrize(("seconds", "steps"), [(0.001, 1), (2.0, 1), (2.001, 2), (8.0, 4)])
def test_a_step_that_ends_in_time_is_the_last_one(make: Make, seconds: float, steps: int) -> None:
    run = make(seconds)
    run.fit()
    assert run.trainer.global_step == steps


def test_the_last_step_is_logged_validated_and_saved(make: Make) -> None:
    run = make(7.0)
    saved: list[int] = []
    save = run._save_last.save

    def saving(trainer: Any) -> None:
        saved.append(trainer.global_step)
        save(trainer)

    run._save_last.save = saving  # type: ignore[method-assign]
    run.fit()
    # Step 4 is saved behind its validation and at the end, and not before.
    assert saved == [1, 2, 3, 4, 4]
    assert run.progress.last_loss == run.progress.last_loss
    metrics = run.recorder.record.metrics
    assert metrics["train/loss"] == run.progress.last_loss
    assert torch.load(run.last_checkpoint, weights_only=False)["global_step"] == 4
    # The weights of step 4 were measured, and not only those of step 3.
    (found,) = run.trainer.validate(run.module, run.datamodule, verbose=False)
    assert metrics["val/loss"] == pytest.approx(found["val/loss"], rel=1e-9)


def test_without_validation_rows_the_run_ends_all_the_same(make: Make) -> None:
    run = make(3.0, num_val=0)
    run.fit()
    assert run.trainer.global_step == 2


def test_a_resumed_run_goes_on_with_the_seconds_that_are_left(make: Make) -> None:
    whole = make(7.0, "whole")
    whole.fit()
    first = make(3.0, "halves")
    first.fit()
    assert first.trainer.global_step == 2
    second = make(7.0, "halves")
    second.fit(resume=True)
    assert second.trainer.global_step == 4
    assert second.progress.train_seconds == 8.0
    expected, found = weights_of(whole), weights_of(second)
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_a_resumed_run_with_nothing_left_takes_no_step(make: Make) -> None:
    run = make(3.0)
    run.fit()
    before = weights_of(run)
    again = make(3.0)
    again.fit(resume=True)
    assert again.trainer.global_step == 2
    assert again.progress.train_seconds == 4.0
    assert all(torch.equal(before[name], item) for name, item in weights_of(again).items())
