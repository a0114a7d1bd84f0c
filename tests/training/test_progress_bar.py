"""The bar counts what it says it counts."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from ift_lightning.training.callbacks.progress import TrainingProgressBar


def test_bar_ends_with_the_last_micro_batch() -> None:
    """With two micro-batches a step, there are more of them than optimizer steps."""
    bar = TrainingProgressBar()
    trainer: Any = SimpleNamespace(
        num_training_batches=750, max_steps=375, max_epochs=-1, global_step=0
    )
    bar._trainer = trainer
    assert bar.total_train_batches == 750
