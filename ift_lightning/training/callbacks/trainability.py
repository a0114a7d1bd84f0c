"""Checks that what is meant to be trained is trained.

A public implementation of this very comparison builds its trainer before it attaches the adapter:
several of its methods then train nothing, and nothing says so.
"""

from __future__ import annotations

import zlib
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback

from ift_lightning.modeling.adapters import trainable_tensors
from ift_lightning.training.module import InstructionTuningModule


def tensor_checksum(tensor: torch.Tensor) -> int:
    """Return a checksum of a tensor's bytes."""
    data = tensor.detach().contiguous().cpu().flatten().view(torch.uint8)
    return zlib.crc32(data.numpy().data)


class TrainabilityAudit(Callback):
    """Sees that every trainable tensor gets a gradient early on, and has changed by the end.

    Args:
        gradient_steps: Optimizer steps within which every tensor has to have had a gradient.
            One step is too few: LoRA's first matrix has none before the second one has moved.
    """

    def __init__(self, gradient_steps: int = 8) -> None:
        self.gradient_steps = gradient_steps
        self.result: dict[str, Any] = {}
        self._without_gradient: set[str] = set()
        self._checksums: dict[str, int] = {}
        self._first_ranks: dict[str, int] = {}
        self._seen_steps = 0

    def state_dict(self) -> dict[str, Any]:
        return {
            "without_gradient": sorted(self._without_gradient),
            "checksums": self._checksums,
            "first_ranks": self._first_ranks,
            "seen_steps": self._seen_steps,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._without_gradient = set(state["without_gradient"])
        self._checksums = state["checksums"]
        self._first_ranks = state["first_ranks"]
        self._seen_steps = state["seen_steps"]

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, InstructionTuningModule)
        if self._checksums:  # resumed
            return
        tensors = trainable_tensors(pl_module.model)
        self._without_gradient = set(tensors)
        self._checksums = {name: tensor_checksum(item) for name, item in tensors.items()}
        if pl_module.adalora is not None:
            self._first_ranks = {
                name: int(values.numel()) for name, values in tensors.items() if "lora_E" in name
            }

    def on_before_optimizer_step(
        self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        if not self._without_gradient or self._seen_steps >= self.gradient_steps:
            return
        assert isinstance(pl_module, InstructionTuningModule)
        self._seen_steps += 1
        for name, tensor in trainable_tensors(pl_module.model).items():
            if tensor.grad is not None and bool((tensor.grad != 0).any()):
                self._without_gradient.discard(name)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, InstructionTuningModule)
        tensors = trainable_tensors(pl_module.model)
        adalora = pl_module.adalora
        unchanged = sorted(
            name
            for name, item in tensors.items()
            if tensor_checksum(item) == self._checksums[name]
            # A matrix may lose all its ranks: its singular values then are 0, as at the start.
            and not (adalora is not None and "lora_E" in name and adalora.is_emptied(name))
        )
        self.result = {
            "num_tensors": len(tensors),
            "without_gradient": sorted(self._without_gradient),
            "unchanged": unchanged,
            "gradient_steps_seen": self._seen_steps,
        }
        # In a first step, a factor whose partner starts at zero (LoRA's A) gets no gradient.
        too_short = self._seen_steps < 2 and 0 < len(self._without_gradient) < len(tensors)
        self.result["conclusive"] = not too_short
        problems = []
        no_numbers = [name for name, item in tensors.items() if not bool(item.isfinite().all())]
        self.result["not_finite"] = sorted(no_numbers)
        if no_numbers:
            problems.append(
                f"{len(no_numbers)} tensors hold values that are no numbers: training has diverged. "
                "A lower optimizer.lr may help"
            )
        if not tensors:
            problems.append("nothing is trainable")
        if self._without_gradient and not too_short:
            problems.append(f"{len(self._without_gradient)} tensors never got a gradient")
        if unchanged and not too_short:
            problems.append(f"{len(unchanged)} tensors are as they were before training")
        if adalora is not None:
            ranks = adalora.ranks()
            first = sum(self._first_ranks.values())
            self.result["total_rank"] = {"first": first, "last": sum(ranks.values())}
            self.result["ranks"] = ranks
            # A run that stopped early may end with ranks grown back since the last allocation.
            allocated = adalora.allocated_ranks()
            if allocated is None or sum(allocated.values()) >= first:
                problems.append("AdaLoRA's ranks did not move")
        self.result["problems"] = problems
        self.result["passed"] = not problems
