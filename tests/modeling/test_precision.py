"""Every precision that a CPU has trains there, and keeps weights in the type it promises."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from composing import compose_train
from conftest import FAMILIES
from lightning.pytorch.callbacks import Callback
from tiny_training import make_run

from ift_lightning import assembly
from ift_lightning.modeling.adapters import trainable_tensors
from ift_lightning.training.callbacks.progress import is_step_end

ModelFolder = Callable[[str], Path]
LINEAR = "model.layers.0.self_attn.q_proj.weight"


class StepLosses(Callback):
    """Notes the loss of every optimizer step; a step is two micro-batches."""

    def __init__(self) -> None:
        self.losses: list[float] = []

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if is_step_end(trainer, batch_idx):
            self.losses.append(float(pl_module.step_loss))


def build(precision: str, method: str, folder: Path, tokenizer: Any) -> tuple[Any, str]:
    config = compose_train(
        "model=local", f"model.path={folder}", f"precision={precision}", f"peft={method}"
    )
    torch.manual_seed(0)
    return assembly.build_model(config, tokenizer, 6), config.precision.trainer


@pytest.mark.parametrize(
    ("precision", "linear", "other", "adapter"),
    [
        ("fp32", torch.float32, torch.float32, torch.float32),
        ("bf16_mixed", torch.float32, torch.float32, torch.float32),
        ("bf16_true", torch.bfloat16, torch.bfloat16, torch.float32),
        ("int8", torch.int8, torch.float32, torch.float32),
        ("nf4", torch.uint8, torch.float32, torch.float32),
    ],
)
def test_types_of_weights(
    precision: str,
    linear: torch.dtype,
    other: torch.dtype,
    adapter: torch.dtype,
    model_folder: ModelFolder,
    tokenizer: Any,
) -> None:
    model, _ = build(precision, "lora", model_folder("llama"), tokenizer)
    named = dict(model.get_base_model().named_parameters())
    assert named[LINEAR.replace(".weight", ".base_layer.weight")].dtype == linear
    assert named["model.embed_tokens.weight"].dtype == other
    assert named["model.norm.weight"].dtype == other
    assert {item.dtype for item in trainable_tensors(model).values()} == {adapter}


@pytest.mark.parametrize("family", ["llama", pytest.param(FAMILIES, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("precision", "method"),
    [
        ("bf16_mixed", "lora"),
        ("bf16_mixed", "full"),
        ("bf16_mixed", "adalora"),
        ("bf16_mixed", "prefix"),
        ("bf16_true", "lora"),
        ("bf16_true", "full"),
        ("int8", "lora"),
        ("nf4", "lora"),
        ("nf4", "adalora"),
    ],
)
def test_a_run_trains(
    precision: str,
    method: str,
    family: str | tuple[str, ...],
    model_folder: ModelFolder,
    tokenizer: Any,
    tmp_path: Path,
) -> None:
    for name in [family] if isinstance(family, str) else family:
        model, flag = build(precision, method, model_folder(name), tokenizer)
        losses_of_steps = StepLosses()
        run = make_run(
            model,
            tmp_path / name,
            num_rows=4,
            num_steps=6,
            lr=2e-2,
            precision=flag,
            extra_callbacks=[losses_of_steps],
        )
        run.fit()
        losses = losses_of_steps.losses
        assert len(losses) == 6
        assert all(math.isfinite(loss) for loss in losses)
        assert losses[-1] < losses[0]
        assert run.recorder.record.audit["trainability"]["passed"]
