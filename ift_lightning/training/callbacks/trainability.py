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

from ift_lightning.training.module import InstructionTuningModule
from ift_lightning.training.strategies import PortableCheckpoints
from ift_lightning.training.trained_state import TrainedState


def tensor_checksum(tensor: torch.Tensor) -> int:
    """Return a checksum of a tensor's bytes."""
    data = tensor.detach().contiguous().cpu().flatten().view(torch.uint8)
    return zlib.crc32(data.numpy().data)


def _trained_state(trainer: L.Trainer) -> TrainedState:
    assert isinstance(trainer.strategy, PortableCheckpoints)
    return trainer.strategy.trained_state(with_optimizer=False)


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
        state = _trained_state(trainer)
        self._without_gradient = set(state.names)
        self._checksums = {name: tensor_checksum(state.parameter(name)) for name in state.names}
        if pl_module.adalora is not None:
            self._first_ranks = {
                name: int(values.numel())
                for name, values in state.parameters.items()
                if "lora_E" in name
            }

    def on_before_optimizer_step(
        self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        if not self._without_gradient or self._seen_steps >= self.gradient_steps:
            return
        if trainer.strategy.handles_gradient_accumulation and trainer.fit_loop._should_accumulate():
            return  # DeepSpeed comes by here after every micro-batch
        self._seen_steps += 1
        state = _trained_state(trainer)
        # All names, on all ranks: some strategies put gradients together for the answer.
        found = torch.tensor([float(state.has_gradient(name)) for name in state.names])
        found = trainer.strategy.reduce(found.to(pl_module.device), reduce_op="sum").cpu()
        for name, count in zip(state.names, found.tolist(), strict=True):
            if count > 0:
                self._without_gradient.discard(name)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, InstructionTuningModule)
        state = _trained_state(trainer)
        last: dict[str, int] = {}
        finite: dict[str, bool] = {}
        for name in state.names:
            tensor = state.parameter(name)
            last[name], finite[name] = tensor_checksum(tensor), bool(tensor.isfinite().all())
        adalora = pl_module.adalora
        unchanged = sorted(
            name
            for name, checksum in last.items()
            if checksum == self._checksums[name]
            # A matrix may lose all its ranks: its singular values then are 0, as at the start.
            and not (adalora is not None and "lora_E" in name and adalora.is_emptied(name))
        )
        self.result = {
            "num_tensors": len(last),
            "without_gradient": sorted(self._without_gradient),
            "unchanged": unchanged,
            "gradient_steps_seen": self._seen_steps,
        }
        # In a first step, a factor whose partner starts at zero (LoRA's A) gets no gradient.
        too_short = self._seen_steps < 2 and 0 < len(self._without_gradient) < len(last)
        self.result["conclusive"] = not too_short
        problems = []
        no_numbers = sorted(name for name, is_finite in finite.items() if not is_finite)
        self.result["not_finite"] = no_numbers
        if no_numbers:
            problems.append(
                f"{len(no_numbers)} tensors hold values that are no numbers: training has "
                "diverged. A lower optimizer.lr may help"
            )
        if not last:
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
