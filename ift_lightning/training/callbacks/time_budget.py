"""Ends a run when it has trained for as long as it may."""

from __future__ import annotations

from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback

from ift_lightning.training.callbacks.progress import ProgressMetrics, is_step_end
from ift_lightning.types import Batch


class TimeBudget(Callback):
    """Stops training at the first optimizer step that ends after a number of seconds.

    Seconds are those of :class:`ProgressMetrics`: training alone, and in a resumed run those of its
    earlier parts, too. It has to stand before that callback, which logs the last step.

    Args:
        max_seconds: Seconds of training.
        progress: Whose clock counts.
    """

    def __init__(self, max_seconds: float, progress: ProgressMetrics) -> None:
        self.max_seconds = max_seconds
        self.progress = progress

    def _stop_if_over(self, trainer: L.Trainer) -> None:
        # Every process has a clock of its own, and all have to stop at the same step.
        over = self.progress.seconds >= self.max_seconds
        if trainer.strategy.reduce_boolean_decision(over, all=False):
            trainer.should_stop = True

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._stop_if_over(trainer)  # resumed, with nothing left

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
    ) -> None:
        if is_step_end(trainer, batch_idx):
            self._stop_if_over(trainer)
