"""Scalars of a run, throughput, the progress bar, and a last validation at the end."""

from __future__ import annotations

import time
from typing import Any

import lightning as L
import torch
import torch.distributed as dist
from lightning.pytorch.callbacks import Callback, TQDMProgressBar

from ift_lightning.training.memory import peak_memory_bytes, reset_peak_memory
from ift_lightning.training.module import InstructionTuningModule
from ift_lightning.types import Batch


def is_step_end(trainer: L.Trainer, batch_idx: int) -> bool:
    """Whether this micro-batch was the last of its optimizer step."""
    return (batch_idx + 1) % int(trainer.accumulate_grad_batches) == 0


def is_last_step(trainer: L.Trainer) -> bool:
    """Whether training ends behind this optimizer step, by its number or by a callback's word."""
    return trainer.global_step == trainer.max_steps or trainer.should_stop


class ProgressMetrics(Callback):
    """Logs loss, learning rate, gradient norm, tokens per second, memory and AdaLoRA's ranks.

    Times count training alone. The clock stands while the run validates, logs or saves, and goes
    on with the next micro-batch.

    Args:
        every_n_steps: Optimizer steps between two log entries.
        steps_per_epoch: Optimizer steps in a pass over the training rows.
    """

    def __init__(self, every_n_steps: int, steps_per_epoch: int) -> None:
        self.every_n_steps = every_n_steps
        self.steps_per_epoch = steps_per_epoch
        self.train_seconds = 0.0
        self.num_tokens = 0  # of all ranks, as of the last count
        self.num_target_tokens = 0
        self.last_loss = float("nan")
        self.peak_train_memory = 0
        self._since: float | None = None
        self._logged = (0.0, 0, 0)  # seconds, tokens and target tokens at the last entry
        self._loss_sum, self._loss_count = 0.0, 0  # of all ranks, since the last entry
        # This rank's tokens, target tokens and sum of losses since the last count.
        self._own = torch.zeros(2, dtype=torch.float64)
        self._own_loss = torch.zeros((), dtype=torch.float64)  # where the model is

    def _count(self) -> None:
        """Add up what the ranks have seen since the last time; all ranks take part."""
        total = torch.cat([self._own, self._own_loss.cpu().reshape(1)])
        if dist.is_initialized() and dist.get_world_size() > 1:
            dist.all_reduce(total)
        self._own.zero_()
        self._own_loss = torch.zeros_like(self._own_loss)
        self.num_tokens += int(total[0])
        self.num_target_tokens += int(total[1])
        self._loss_sum += float(total[2])

    def state_dict(self) -> dict[str, Any]:
        self._stop_clock()  # a checkpoint is about to be written
        self._count()
        return {
            "train_seconds": self.train_seconds,
            "num_tokens": self.num_tokens,
            "num_target_tokens": self.num_target_tokens,
            "last_loss": self.last_loss,
            "logged": self._logged,
            "loss_sum": self._loss_sum,
            "loss_count": self._loss_count,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.train_seconds = state["train_seconds"]
        self.num_tokens = state["num_tokens"]
        self.num_target_tokens = state["num_target_tokens"]
        self.last_loss = state["last_loss"]
        self._logged = tuple(state["logged"])
        self._loss_sum, self._loss_count = state["loss_sum"], state["loss_count"]

    @property
    def seconds(self) -> float:
        """Seconds of training so far."""
        running = 0.0 if self._since is None else time.perf_counter() - self._since
        return self.train_seconds + running

    def _start_clock(self) -> None:
        if self._since is None:
            self._since = time.perf_counter()

    def _stop_clock(self) -> None:
        if self._since is not None:
            self.train_seconds += time.perf_counter() - self._since
            self._since = None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        reset_peak_memory()
        self._start_clock()

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._stop_clock()

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        self._start_clock()

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._stop_clock()
        self.peak_train_memory = peak_memory_bytes()

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
    ) -> None:
        assert isinstance(pl_module, InstructionTuningModule)
        if batch.row_ids:  # a filler's row counts elsewhere
            self._own[0] += int(batch.attention_mask.sum())
            self._own[1] += int((batch.loss_weights > 0).sum())
        if not is_step_end(trainer, batch_idx):
            return
        loss = pl_module.step_loss.double()
        self._own_loss = self._own_loss.to(loss.device) + loss
        self._loss_count += 1
        step = trainer.global_step
        if step % self.every_n_steps and not is_last_step(trainer):
            return
        self._stop_clock()
        self._log(trainer, pl_module, step)

    def _log(self, trainer: L.Trainer, pl_module: InstructionTuningModule, step: int) -> None:
        self._count()
        self.last_loss = self._loss_sum / self._loss_count
        self._loss_sum, self._loss_count = 0.0, 0
        seconds, tokens, targets = self._logged
        elapsed = max(self.train_seconds - seconds, 1e-9)
        self._logged = (self.train_seconds, self.num_tokens, self.num_target_tokens)
        metrics = {
            "train/loss": self.last_loss,
            "train/gradient_norm": pl_module.last_gradient_norm(),
            "train/learning_rate": float(trainer.optimizers[0].param_groups[0]["lr"]),
            "train/epoch": step / self.steps_per_epoch,
            "performance/tokens_per_second": (self.num_tokens - tokens) / elapsed,
            "performance/target_tokens_per_second": (self.num_target_tokens - targets) / elapsed,
            "performance/peak_memory_gib": peak_memory_bytes() / 2**30,
        }
        if pl_module.adalora is not None:
            ranks = pl_module.adalora.ranks()
            metrics["adalora/total_rank"] = float(sum(ranks.values()))
            metrics |= {f"adalora_rank/{name}": float(rank) for name, rank in ranks.items()}
        for logger in trainer.loggers:
            logger.log_metrics(metrics, step)
        pl_module.log("loss", self.last_loss, prog_bar=True, logger=False)


class AdaLoraSteps(Callback):
    """Moves AdaLoRA's ranks after every optimizer step, while its gradients are still there."""

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
    ) -> None:
        assert isinstance(pl_module, InstructionTuningModule)
        assert pl_module.adalora is not None
        if is_step_end(trainer, batch_idx):
            pl_module.adalora.after_optimizer_step(trainer.global_step)


class ValidateAtEnd(Callback):
    """Makes Lightning validate behind the last step, whatever the interval.

    The last weights would otherwise go unmeasured, and could not become the best checkpoint.
    """

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
    ) -> None:
        if trainer.global_step == trainer.max_steps and is_step_end(trainer, batch_idx):
            trainer.val_check_batch = batch_idx + 1


class TrainingProgressBar(TQDMProgressBar):
    """One bar for the whole run, which to Lightning is a single epoch.

    Args:
        refresh_rate: Micro-batches between two updates.
        is_open: Whether nobody knows how many micro-batches there will be.
    """

    def __init__(self, refresh_rate: int = 1, *, is_open: bool = False) -> None:
        super().__init__(refresh_rate=refresh_rate)
        self.is_open = is_open

    @property
    def total_train_batches(self) -> int | float:
        """Micro-batches of the run; Lightning would take ``max_steps`` to count them."""
        return float("inf") if self.is_open else self.trainer.num_training_batches

    def init_train_tqdm(self) -> Any:
        bar = super().init_train_tqdm()
        bar.unit = " micro-batches"
        return bar

    def on_train_epoch_start(self, trainer: L.Trainer, *arguments: Any) -> None:
        super().on_train_epoch_start(trainer, *arguments)
        self.train_progress_bar.set_description("training")

    def get_metrics(self, trainer: L.Trainer, pl_module: L.LightningModule) -> dict[str, Any]:
        items = dict(super().get_metrics(trainer, pl_module))
        items.pop("v_num", None)
        return items
