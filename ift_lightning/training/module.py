"""The one LightningModule: every method, strategy and precision goes through this loss."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import lightning as L
import torch
import torch.distributed as dist

from ift_lightning.metrics import LossSum, token_losses
from ift_lightning.modeling.adalora import AdaLoraController
from ift_lightning.modeling.adapters import peft_type
from ift_lightning.modeling.loss import SupervisedHead, TokenLosses
from ift_lightning.training.resuming import RandomStates, stretch_positions
from ift_lightning.training.sharding import shard_model
from ift_lightning.training.strategies import ShardedDataParallel, ZeroRedundancy
from ift_lightning.training.trained_state import whole
from ift_lightning.types import Batch


class EvaluationSums:
    """Sums over a split, from which its loss, perplexity and token accuracy follow."""

    def __init__(self) -> None:
        self.values: torch.Tensor | None = None

    def add(self, losses: TokenLosses) -> None:
        parts = torch.stack(
            [
                losses.weighted_sum.detach().double(),
                losses.weights.sum().double(),
                losses.nll.detach()[losses.weights > 0].sum().double(),
                (losses.weights > 0).sum().double(),
                losses.correct[losses.weights > 0].sum().double(),
            ]
        )
        self.values = parts if self.values is None else self.values + parts

    def metrics(self, prefix: str, reduce: Callable[[torch.Tensor], Any]) -> dict[str, float]:
        """Return the metrics under ``prefix/…``; ``reduce`` adds over ranks."""
        assert self.values is not None
        weighted, weights, nll, count, correct = (float(x) for x in reduce(self.values))
        scores = token_losses([LossSum(weighted, weights, int(correct), int(count), nll)]).corpus
        # A run record and most loggers have no infinity.
        scores["perplexity"] = min(scores["perplexity"], math.exp(700))
        return {f"{prefix}/{name}": value for name, value in scores.items()}


class InstructionTuningModule(L.LightningModule):
    """Trains a causal language model on the weighted loss of whole optimizer steps.

    Args:
        model: Hugging Face model, with an adapter or all weights trainable.
        optimizer: Makes the optimizer of the model.
        scheduler: Makes the schedule of an optimizer, in optimizer steps.
        max_logits_elements: See :class:`SupervisedHead`.
    """

    def __init__(
        self,
        model: Any,
        *,
        optimizer: Callable[[torch.nn.Module], torch.optim.Optimizer],
        scheduler: Callable[[torch.optim.Optimizer], torch.optim.lr_scheduler.LRScheduler],
        max_logits_elements: int = 1 << 26,
    ) -> None:
        super().__init__()
        self.model = model
        self.head = SupervisedHead(model, max_logits_elements=max_logits_elements)
        self.adalora = AdaLoraController(model) if peft_type(model) == "ADALORA" else None
        self._make_optimizer = optimizer
        self._make_scheduler = scheduler
        self.step_loss = torch.zeros(())  # of the current optimizer step, this rank's share
        self.gradient_norm = torch.zeros(())  # before clipping
        self._sums = EvaluationSums()
        self._restored_random: dict[str, Any] | None = None
        self._is_sharded = False

    def configure_model(self) -> None:
        """Shard the model, where the strategy is one that leaves it to the module."""
        strategy = self.trainer.strategy
        if isinstance(strategy, ShardedDataParallel) and not self._is_sharded:
            assert self.device_mesh is not None
            shard_model(self.model, self.device_mesh["data_parallel"], strategy.sharding)
            self._is_sharded = True

    def configure_optimizers(self) -> Any:
        optimizer = self._make_optimizer(self.model)
        scheduler = self._make_scheduler(optimizer)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step", "name": "lr"},
        }

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        losses = self.head(batch)
        loss = losses.weighted_sum / batch.step_weight
        micro_batches = self.trainer.accumulate_grad_batches
        first = batch_idx % micro_batches == 0
        self.step_loss = loss.detach() + (0.0 if first else self.step_loss)
        if self.adalora is not None:
            # Once per optimizer step in all, in the shares that the micro-batches have of it.
            share = losses.weights.sum() / batch.step_weight
            loss = loss + share * self.adalora.orthogonality_term()
        # The divisor covers the whole step already. Lightning divides by the number of
        # micro-batches, and data parallelism averages over ranks: both are undone here.
        return loss * (micro_batches * self.trainer.world_size)

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip by the global norm, and keep the norm, which otherwise would be computed twice."""
        if isinstance(self.trainer.strategy, ZeroRedundancy):
            return  # DeepSpeed clips inside its step
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        limit = float("inf") if gradient_clip_val is None else float(gradient_clip_val)
        self.gradient_norm = whole(torch.nn.utils.clip_grad_norm_(parameters, limit).detach())

    def last_gradient_norm(self) -> float:
        """Return the global norm of the last optimizer step's gradient, before clipping."""
        strategy = self.trainer.strategy
        if isinstance(strategy, ZeroRedundancy):
            return float(strategy.deepspeed_engine.get_global_grad_norm() or 0.0)
        return float(self.gradient_norm)

    def on_validation_epoch_start(self) -> None:
        self._sums = EvaluationSums()

    def on_test_epoch_start(self) -> None:
        self._sums = EvaluationSums()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self._sums.add(self.head(batch))

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self._sums.add(self.head(batch))

    def on_validation_epoch_end(self) -> None:
        self._log_sums("val")

    def on_test_epoch_end(self) -> None:
        self._log_sums("test")

    def _log_sums(self, prefix: str) -> None:
        def over_ranks(values: torch.Tensor) -> Any:
            return self.trainer.strategy.reduce(values, reduce_op="sum")

        metrics = self._sums.metrics(prefix, over_ranks)
        for name, value in metrics.items():
            # float64: a checkpoint is chosen by these numbers.
            tensor = torch.tensor(value, dtype=torch.float64)
            self.log(name, tensor, prog_bar=name == "val/loss", rank_zero_only=False)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["random"] = RandomStates.gather()
        checkpoint["micro_batches_per_step"] = int(self.trainer.accumulate_grad_batches)
        if self.adalora is not None:
            checkpoint["adalora"] = self.adalora.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self._restored_random = checkpoint["random"]
        stretch_positions(
            checkpoint,
            before=checkpoint["micro_batches_per_step"],
            now=int(self.trainer.accumulate_grad_batches),
        )
        if self.adalora is not None and "adalora" in checkpoint:
            self.adalora.load_state_dict(checkpoint["adalora"])

    def on_train_start(self) -> None:
        """Go on with the dropout masks that an uninterrupted run would have drawn."""
        if self._restored_random is not None:
            RandomStates.restore(self._restored_random, step=self.trainer.global_step)
            self._restored_random = None
        elif dist.is_initialized() and dist.get_rank() > 0:
            # Ranks drop out different activations. What was made so far is the same on all.
            torch.manual_seed(torch.initial_seed() + dist.get_rank())
