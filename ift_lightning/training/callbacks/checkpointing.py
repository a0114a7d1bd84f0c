"""Keeps ``last.ckpt``, from which a run is resumed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Checkpoint

from ift_lightning.training.callbacks.progress import is_step_end
from ift_lightning.types import Batch


class SaveLast(Checkpoint):
    """Writes the last checkpoint every so many optimizer steps.

    Where a step is followed by a validation, the checkpoint is written behind it: the best loss so
    far and the patience of early stopping are in the callbacks' states, and a resumed run does not
    validate again. It has to stand behind the callbacks whose states it saves.

    Args:
        path: Of the checkpoint.
        every_n_steps: Optimizer steps between two writes.
        val_every_n_steps: Optimizer steps between two validations; None without validation.
    """

    def __init__(self, path: Path, every_n_steps: int, val_every_n_steps: int | None) -> None:
        self.path = path
        self.every_n_steps = every_n_steps
        self.val_every_n_steps = val_every_n_steps

    def save(self, trainer: L.Trainer) -> None:
        """Replace the checkpoint in one go: a run that is killed meanwhile keeps the old one."""
        temporary = self.path.with_suffix(".part")
        trainer.save_checkpoint(temporary)
        if trainer.is_global_zero:
            temporary.replace(self.path)

    def _validation_follows(self, trainer: L.Trainer) -> bool:
        every = self.val_every_n_steps
        step = trainer.global_step
        is_last = step == trainer.max_steps or trainer.should_stop
        return every is not None and (step % every == 0 or is_last)

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
    ) -> None:
        due = is_step_end(trainer, batch_idx) and trainer.global_step % self.every_n_steps == 0
        if due and not self._validation_follows(trainer):
            self.save(trainer)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.state.fn == "fit" and trainer.global_step % self.every_n_steps == 0:
            self.save(trainer)
