"""Keeps the run record current, and shows samples and hyperparameters to the loggers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger

from ift_lightning.training.callbacks.progress import ProgressMetrics
from ift_lightning.training.run_record import RunRecorder


class RunRecordCallback(Callback):
    """Writes metrics and performance into ``run.json``: now and then, at validations, at the end.

    Args:
        recorder: The run's record.
        progress: Where times and token counts come from.
        every_seconds: Time between writes in the middle of training, for who watches the run.
    """

    def __init__(
        self, recorder: RunRecorder, progress: ProgressMetrics, *, every_seconds: float = 2.0
    ) -> None:
        self.recorder = recorder
        self.progress = progress
        self.every_seconds = every_seconds
        self.eval_seconds = 0.0
        self._since = 0.0
        self._written = time.perf_counter()

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any, **__: Any) -> None:
        if time.perf_counter() - self._written >= self.every_seconds and trainer.global_step:
            self._update(trainer)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._since = time.perf_counter()

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.eval_seconds += time.perf_counter() - self._since
        self._update(trainer)

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._since = time.perf_counter()

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.eval_seconds += time.perf_counter() - self._since
        self._update(trainer)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._update(trainer)

    def _update(self, trainer: L.Trainer) -> None:
        metrics = self.recorder.record.metrics
        for name, value in trainer.callback_metrics.items():
            if name.startswith(("val/", "test/")):
                metrics[name] = float(value)
        progress = self.progress
        if progress.last_loss == progress.last_loss:  # not NaN
            metrics["train/loss"] = progress.last_loss
        seconds = max(progress.train_seconds, 1e-9)
        performance = self.recorder.record.performance
        performance["num_steps"] = trainer.global_step
        performance["train_seconds"] = progress.train_seconds
        performance["eval_seconds"] = self.eval_seconds
        performance["tokens_per_second"] = progress.num_tokens / seconds
        performance["target_tokens_per_second"] = progress.num_target_tokens / seconds
        performance["num_tokens_seen"] = progress.num_tokens
        performance["num_target_tokens_seen"] = progress.num_target_tokens
        self.recorder.write()
        self._written = time.perf_counter()


def log_samples(loggers: list[Any], samples: list[str]) -> None:
    """Show rendered training examples, their supervised spans marked, in TensorBoard and W&B."""
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            for index, sample in enumerate(samples):
                # Indented by four, Markdown shows the text as it is.
                block = "\n".join(f"    {line}" for line in sample.splitlines())
                logger.experiment.add_text(f"samples/{index}", block, global_step=0)
        elif isinstance(logger, WandbLogger) and samples:
            logger.log_text("samples", columns=["sample"], data=[[text] for text in samples])


def log_hyperparameters(
    loggers: list[Any], parameters: dict[str, Any], metrics: dict[str, float]
) -> None:
    """Record the hyperparameters together with the final metrics."""
    # Under names of their own: they would otherwise be drawn at step 0 of the curves.
    final = {f"final/{name}": value for name, value in metrics.items()}
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.log_hyperparams(parameters, final)
        else:
            logger.log_hyperparams(parameters)
        if isinstance(logger, WandbLogger):
            logger.experiment.summary.update(final)
        logger.save()


@contextmanager
def closing_loggers(loggers: list[Any]) -> Iterator[None]:
    """Finish the W&B run of the block, as failed where the block raises.

    The next run of a sweep in this process would otherwise go on writing into it.

    Args:
        loggers: May be filled inside the block.
    """
    failed = True
    try:
        yield
        failed = False
    finally:
        if any(isinstance(logger, WandbLogger) for logger in loggers):
            import wandb

            wandb.finish(exit_code=int(failed))
