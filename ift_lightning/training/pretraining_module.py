"""The LightningModule of pretraining: next-token loss, Muon and AdamW side by side."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import lightning as L
import torch
from transformers import PreTrainedModel


@dataclass(frozen=True)
class PretrainingOptimization:
    """How the weights of a base model move.

    Args:
        num_steps: Optimizer steps of the run.
        matrix_lr: Peak learning rate of Muon (https://kellerjordan.github.io/posts/muon/), for
            the matrices inside the layers.
        other_lr: Peak learning rate of AdamW, for embeddings, norms and biases.
        matrix_weight_decay: Of Muon.
        warmup: Share of the steps in which the learning rates rise.
        decay: Share of the steps, at the end, in which they fall.
        gradient_clip_norm: Global norm that gradients are clipped to.
    """

    num_steps: int
    matrix_lr: float = 0.02
    other_lr: float = 2e-3
    matrix_weight_decay: float = 0.05
    warmup: float = 0.03
    decay: float = 0.35
    gradient_clip_norm: float = 1.0

    def learning_rate_factor(self, step: int) -> float:
        """Return the factor of step ``step``: warm-up, constant, linear decay (WSD)."""
        progress = step / self.num_steps
        if progress < self.warmup:
            return progress / self.warmup
        return 1.0 if progress < 1 - self.decay else max(0.02, (1 - progress) / self.decay)


class PretrainingModule(L.LightningModule):
    """Trains a causal language model on every token of rows without padding.

    Args:
        model: Returns logits [B, T, V] of ``input_ids``.
        optimization: Learning rates and their schedule.
        log_every_n_steps: Optimizer steps between two log entries.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        optimization: PretrainingOptimization,
        *,
        log_every_n_steps: int = 10,
    ) -> None:
        super().__init__()
        # Two optimizers; Lightning's own loop drives one.
        self.automatic_optimization = False
        self.model = model
        self.optimization = optimization
        self.log_every_n_steps = log_every_n_steps
        self._since = (time.perf_counter(), 0)  # at the last log entry, with the tokens since

    def configure_optimizers(self) -> tuple[list[Any], list[Any]]:
        settings = self.optimization
        named = list(self.model.named_parameters())
        is_matrix = {name: p.ndim == 2 and "embed" not in name for name, p in named}
        muon = torch.optim.Muon(
            [p for name, p in named if is_matrix[name]],
            lr=settings.matrix_lr,
            momentum=0.95,
            weight_decay=settings.matrix_weight_decay,
        )
        adamw = torch.optim.AdamW(
            [p for name, p in named if not is_matrix[name]],
            lr=settings.other_lr,
            betas=(0.9, 0.95),
            weight_decay=0.0,
            fused=True,
        )
        optimizers = [muon, adamw]
        schedulers = [
            torch.optim.lr_scheduler.LambdaLR(optimizer, settings.learning_rate_factor)
            for optimizer in optimizers
        ]
        return optimizers, schedulers

    def loss(self, rows: torch.Tensor) -> torch.Tensor:
        """Return the mean next-token loss of ``rows`` (int64 [B, T]) in nats."""
        logits = self.model(input_ids=rows, use_cache=False).logits[:, :-1]
        return torch.nn.functional.cross_entropy(
            logits.float().flatten(0, 1), rows[:, 1:].flatten()
        )

    def training_step(self, rows: torch.Tensor, batch_idx: int) -> None:
        loss = self.loss(rows)
        self.manual_backward(loss)
        norm = torch.nn.utils.clip_grad_norm_(
            self.model.parameters(), self.optimization.gradient_clip_norm
        )
        muon, adamw = self.trainer.optimizers
        # Stepped without Lightning's wrapper, which would count two steps for every one.
        muon.step()
        lightning_adamw: Any = self.optimizers()
        lightning_adamw[1].step()
        for optimizer in (muon, adamw):
            optimizer.zero_grad()
        schedulers: Any = self.lr_schedulers()
        for scheduler in schedulers:
            scheduler.step()
        self._log(loss.detach(), norm, rows.numel())

    def validation_step(self, rows: torch.Tensor, batch_idx: int) -> None:
        self.log("val/loss", self.loss(rows), batch_size=len(rows), prog_bar=True)

    def _log(self, loss: torch.Tensor, gradient_norm: torch.Tensor, num_tokens: int) -> None:
        since, tokens = self._since
        tokens += num_tokens
        step = self.trainer.global_step
        if step % self.log_every_n_steps and step != self.trainer.max_steps:
            self._since = (since, tokens)
            return
        now = time.perf_counter()
        metrics = {
            "train/loss": float(loss),
            "train/gradient_norm": float(gradient_norm),
            "train/learning_rate_factor": self.optimization.learning_rate_factor(step),
            "performance/tokens_per_second": tokens / max(now - since, 1e-9),
        }
        self._since = (now, 0)
        for logger in self.trainer.loggers:
            logger.log_metrics(metrics, step)
        self.log("loss", metrics["train/loss"], prog_bar=True, logger=False)
