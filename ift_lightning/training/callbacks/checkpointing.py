"""Keeps ``last.ckpt``, from which a run is resumed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Checkpoint

from ift_lightning.errors import StoppedBySignal
from ift_lightning.training.callbacks.progress import is_last_step, is_step_end
from ift_lightning.training.callbacks.stopping import StopRequests
from ift_lightning.training.checkpoints import write_atomically
from ift_lightning.training.strategies import PortableCheckpoints
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
        requests: Where a signal asks to stop, the checkpoint is written and the run left; None
            for a run that does not listen.
    """

    def __init__(
        self,
        path: Path,
        every_n_steps: int,
        val_every_n_steps: int | None,
        requests: StopRequests | None = None,
    ) -> None:
        self.path = path
        self.every_n_steps = every_n_steps
        self.val_every_n_steps = val_every_n_steps
        self.listens = requests is not None
        self.requests = requests or StopRequests()
        self._stop: int | None = None

    def save(self, trainer: L.Trainer) -> None:
        """Replace the checkpoint in one go: a run that is killed meanwhile keeps the old one."""
        if isinstance(trainer.strategy, PortableCheckpoints):
            trainer.save_checkpoint(self.path)
        else:
            write_atomically(self.path, trainer.save_checkpoint)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.listens:
            self.requests.install()
        self.requests.is_training = True

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.requests.is_training = False

    def _save_if_due(self, trainer: L.Trainer) -> None:
        if self._stop is not None or trainer.global_step % self.every_n_steps == 0:
            self.save(trainer)
        if self._stop is not None:
            raise StoppedBySignal(self._stop)

    def _validation_follows(self, trainer: L.Trainer) -> bool:
        every = self.val_every_n_steps
        return every is not None and (trainer.global_step % every == 0 or is_last_step(trainer))

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
    ) -> None:
        if not is_step_end(trainer, batch_idx):
            return
        self._stop = self.requests.agreed()
        if not self._validation_follows(trainer):
            self._save_if_due(trainer)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.state.fn == "fit":
            self._stop = self._stop or self.requests.agreed()
            self._save_if_due(trainer)
