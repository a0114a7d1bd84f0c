"""Through Lightning's accumulation, too, a step does not depend on how it is cut."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import make_model
from tiny_training import (
    VOCABULARY_SIZE,
    gradients,
    make_run,
    random_examples,
    randomize_adapter,
    to_batch,
)

from ift_lightning.modeling.adalora import AdaLoraController
from ift_lightning.modeling.adapters import adalora_steps, attach_adapter, trainable_tensors
from ift_lightning.modeling.loss import SupervisedHead
from ift_lightning.training.run import TrainingRun

SGD = {"_target_": "torch.optim.SGD"}
SETTINGS: dict[str, dict[str, Any] | None] = {
    "full": None,
    "lora": {"_target_": "peft.LoraConfig", "target_modules": "all-linear", "r": 4},
    "prompt": {"_target_": "peft.PromptTuningConfig", "num_virtual_tokens": 5},
    "adalora": {
        "_target_": "peft.AdaLoraConfig",
        "target_modules": "all-linear",
        "init_r": 6,
        "target_r": 3,
        **adalora_steps(40, initial_fraction=0.5, final_fraction=0.3, num_allocations=4),
    },
}


def make_adapted(method: str) -> Any:
    torch.manual_seed(3)
    model = attach_adapter(make_model("llama", VOCABULARY_SIZE), SETTINGS[method])
    randomize_adapter(model)
    return model


def fit(method: str, folder: Path, micro_batch_size: int, **options: Any) -> TrainingRun:
    # Eleven rows in steps of eight: the second step has three rows, and fillers where it is cut
    # into four. The third begins a new epoch.
    run = make_run(
        make_adapted(method),
        folder,
        num_rows=11,
        num_val=0,
        num_steps=3,
        global_batch_size=8,
        micro_batch_size=micro_batch_size,
        optimizer=SGD,
        scheduler="constant",
        lr=0.1,
        gradient_clip_norm=None,
        **options,
    )
    run.fit()
    return run


def moved(run: TrainingRun, method: str) -> torch.Tensor:
    """Return what training added to the trainable tensors, as one float64 vector."""
    start = trainable_tensors(make_adapted(method))
    now = trainable_tensors(run.module.model)
    return torch.cat(
        [(now[name].detach().double() - start[name].detach().double()).flatten() for name in start]
    )


@pytest.mark.parametrize("method", SETTINGS)
def test_weights_after_three_steps_do_not_depend_on_the_cut(method: str, tmp_path: Path) -> None:
    runs = {size: fit(method, tmp_path / str(size), size) for size in (8, 4, 2, 1)}
    assert runs[2].settings.micro_batches_per_step == 4
    wanted = moved(runs[8], method)
    assert wanted.norm() > 0
    for size in (4, 2, 1):
        difference = (moved(runs[size], method) - wanted).norm() / wanted.norm()
        # Weights are of order 0.1 and have moved by less: their last fp32 digits are in here.
        assert difference <= 5e-6, f"micro_batch_size={size}"
        assert float(runs[size].module.step_loss) == pytest.approx(
            float(runs[8].module.step_loss), rel=1e-6
        )
        assert float(runs[size].module.gradient_norm) == pytest.approx(
            float(runs[8].module.gradient_norm), rel=1e-6
        )


@pytest.mark.parametrize("micro_batch_size", [8, 2])
@pytest.mark.parametrize("method", ["lora", "adalora"])
def test_a_step_is_the_textbook_step(method: str, micro_batch_size: int, tmp_path: Path) -> None:
    """One SGD step equals one on the plain weighted mean over the whole step, computed here."""
    model = make_adapted(method)
    run = make_run(
        make_adapted(method),
        tmp_path,
        num_rows=8,
        num_val=0,
        num_steps=1,
        global_batch_size=8,
        micro_batch_size=micro_batch_size,
        optimizer=SGD,
        scheduler="constant",
        lr=10.0,
        gradient_clip_norm=None,
    )
    run.fit()
    batch = to_batch(random_examples(8, seed=1))
    losses = SupervisedHead(model)(batch)
    loss = (losses.weights * losses.nll).sum() / losses.weights.sum()
    if method == "adalora":
        loss = loss + AdaLoraController(model).orthogonality_term()
    loss.backward()
    wanted = torch.cat([-10.0 * item.double().flatten() for item in gradients(model).values()])
    difference = (moved(run, method) - wanted).norm() / wanted.norm()
    assert difference <= 5e-6


def test_clipping_acts_on_the_whole_step(tmp_path: Path) -> None:
    """The norm is of the accumulated gradient, and the step is as long as the limit says."""
    run = make_run(
        make_adapted("full"),
        tmp_path,
        num_rows=8,
        num_val=0,
        num_steps=1,
        global_batch_size=8,
        micro_batch_size=2,
        optimizer=SGD,
        scheduler="constant",
        lr=1.0,
        gradient_clip_norm=1e-2,
    )
    run.fit()
    assert float(run.module.gradient_norm) > 0.1
    assert float(moved(run, "full").norm()) == pytest.approx(1e-2, rel=1e-3)
