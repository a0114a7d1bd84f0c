"""A callback that makes every step take a while, so that a job can be met in its middle."""

from __future__ import annotations

import time
from typing import Any

from lightning.pytorch.callbacks import Callback

from ift_lightning.errors import UserError


class SlowSteps(Callback):
    """Waits behind every micro-batch.

    Args:
        seconds: How long.
    """

    def __init__(self, seconds: float = 0.3) -> None:
        self.seconds = seconds

    def on_train_batch_end(self, *arguments: Any) -> None:
        time.sleep(self.seconds)


class FailsWithDora(Callback):
    """Raises in the middle of training, with one method."""

    def on_train_batch_end(self, trainer: Any, module: Any, *arguments: Any) -> None:
        if module.model.peft_config["default"].use_dora:
            raise UserError("there is something wrong with the magnitudes")


class FailsOnRankOne(Callback):
    """Raises in the middle of training, on one rank."""

    def on_train_batch_end(self, trainer: Any, *arguments: Any) -> None:
        if trainer.global_rank == 1 and trainer.global_step == 2:
            raise RuntimeError("this rank cannot go on")
