"""What AdaLoRA needs around PEFT's layers: the orthogonality term, and ranks that move.

PEFT adds the orthogonality term only inside ``outputs.loss``, which a pipeline with a loss of its
own never sees, and moves ranks only where ``update_and_allocate`` is called after every optimizer
step (https://github.com/huggingface/peft/issues/1801).
"""

from __future__ import annotations

from typing import Any

import torch


def _matrix_name(parameter_name: str) -> str:
    """Return the adapted matrix that a "…lora_E…" parameter belongs to."""
    return parameter_name.split(".lora_")[0].removeprefix("base_model.model.")


def freeze_rank_counts(model: Any) -> None:
    """Keep AdaLoRA's ``ranknum``, a constant divisor, from being trained.

    Over 16-bit weights, PEFT's cast to float32 makes it a parameter with a gradient. It would
    drift, and since it is never saved, the adapter would come back as another one.
    """
    for name, parameter in model.named_parameters():
        if ".ranknum." in name:
            parameter.requires_grad_(False)


class AdaLoraController:
    """Drives the rank allocation of a model with an AdaLoRA adapter.

    Args:
        model: A ``PeftModel`` whose active adapter is AdaLoRA.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self.tuner = model.base_model
        self.config = model.peft_config[model.active_adapter]
        adapter = self.tuner.trainable_adapter_name
        self._factors = [
            (parameter, "lora_A" in name)
            for name, parameter in model.named_parameters()
            if ("lora_A" in name or "lora_B" in name) and adapter in name
        ]
        self._singular_values = {
            name: parameter
            for name, parameter in model.named_parameters()
            if "lora_E" in name and adapter in name
        }

    def orthogonality_term(self) -> torch.Tensor:
        """Return ``orth_reg_weight`` times the mean of ||P P^T - I||_F over all factors.

        Equation 4 of https://arxiv.org/abs/2303.10512, with a norm where it has a squared norm,
        and a mean where it has a sum, as PEFT computes it.
        """
        total = torch.zeros((), device=self._factors[0][0].device)
        for factor, is_row_factor in self._factors:
            gram = factor @ factor.T if is_row_factor else factor.T @ factor
            identity = torch.eye(gram.shape[0], dtype=gram.dtype, device=gram.device)
            total = total + torch.linalg.norm(gram - identity)
        return self.config.orth_reg_weight * total / len(self._factors)

    def after_optimizer_step(self, step: int) -> None:
        """Update importances and, when it is time, take ranks away.

        Args:
            step: Optimizer steps made so far; gradients of the last one are still in place.
        """
        self._follow_device()
        self.tuner.update_and_allocate(step)

    def _follow_device(self) -> None:
        """Move restored importances to the model; a checkpoint is loaded before it is placed."""
        device = self._factors[0][0].device
        allocator = self.tuner.rankallocator
        for table in (allocator.ipt, allocator.exp_avg_ipt, allocator.exp_avg_unc):
            for name, values in table.items():
                table[name] = values.to(device)

    def ranks(self) -> dict[str, int]:
        """Return the rank in use of every adapted matrix: its singular values that are not 0."""
        return {
            _matrix_name(name): int((values.detach() != 0).sum())
            for name, values in self._singular_values.items()
        }

    def allocated_ranks(self) -> dict[str, int] | None:
        """Return the rank that the last allocation gave each matrix; None before the first one.

        Until the final phase, optimizer steps let ranks grow back between two allocations, and
        :meth:`ranks` then shows more than were allocated.
        """
        pattern = self.config.rank_pattern
        if not pattern:
            return None
        return {_matrix_name(name): sum(kept) for name, kept in pattern.items()}

    def is_emptied(self, name: str) -> bool:
        """Whether the last allocation left no rank to the matrix that a parameter belongs to."""
        return (self.allocated_ranks() or {}).get(_matrix_name(name)) == 0

    def state_dict(self) -> dict[str, Any]:
        """Return what the rank allocation remembers between steps."""
        allocator = self.tuner.rankallocator
        return {
            "ipt": dict(allocator.ipt),
            "exp_avg_ipt": dict(allocator.exp_avg_ipt),
            "exp_avg_unc": dict(allocator.exp_avg_unc),
            "rank_pattern": self.config.rank_pattern,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state."""
        allocator = self.tuner.rankallocator
        allocator.ipt = dict(state["ipt"])
        allocator.exp_avg_ipt = dict(state["exp_avg_ipt"])
        allocator.exp_avg_unc = dict(state["exp_avg_unc"])
        self.config.rank_pattern = state["rank_pattern"]

    def prepare_export(self) -> None:
        """Make the saved adapter equal the model, at any step and in any precision.

        With a pattern of ranks, PEFT saves only those. Before the final phase the pattern is older
        than the weights, and ranks that it misses have grown back; and loading it over 16-bit
        weights rounds the adapter to 16 bits. Without one, all are saved, those taken away as 0.
        """
        self.config.rank_pattern = None
