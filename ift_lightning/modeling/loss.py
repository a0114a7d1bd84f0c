"""The weighted loss, with the output head applied to supervised positions only.

With ``w`` the loss weights and ``nll`` the negative log-likelihoods of the target tokens,

    loss = sum(w * nll) / sum(w)        over all tokens of an optimizer step.

A micro-batch contributes its own numerator over the whole step's denominator, so contributions
of micro-batches and ranks add up, and the gradient does not depend on how a step is cut.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

from ift_lightning.types import Batch

# Models whose logits are changed behind the output head cannot have it applied in chunks.
_LOGIT_TRANSFORMS = {"final_logit_softcapping": None, "logit_scale": 1.0, "logits_scaling": 1.0}


@dataclass(slots=True)
class TokenLosses:
    """Losses of a micro-batch's ``N`` supervised positions."""

    nll: torch.Tensor  # float32 [N], nats
    weights: torch.Tensor  # float32 [N]
    correct: torch.Tensor  # bool [N]: the most likely token was the target

    @property
    def weighted_sum(self) -> torch.Tensor:
        """sum(w * nll), a scalar with a gradient."""
        return (self.weights * self.nll).sum()


class SupervisedHead:
    """Runs a model so that its output head sees only positions whose next token has a weight.

    A forward pre-hook on the output embeddings selects those positions, which saves most of the
    head's work where prompts are long. Prompt and P-tuning put virtual tokens in front of the
    row; they are counted from the difference in length.

    Args:
        model: A causal language model, with or without an adapter.
        max_logits_elements: Where N*V is above this, the head is applied in chunks whose logits
            are computed a second time in the backward pass instead of being kept. Under ZeRO-3,
            all ranks make as many chunks as the one that needs most.
    """

    def __init__(self, model: Any, *, max_logits_elements: int = 1 << 26) -> None:
        self.model = model
        self.max_logits_elements = max_logits_elements
        # The head is looked up at every call: an adapter method may replace or wrap it.
        config = model.config
        self._can_chunk = all(
            getattr(config, name, neutral) in (None, neutral)
            for name, neutral in _LOGIT_TRANSFORMS.items()
        )

    def __call__(self, batch: Batch) -> TokenLosses:
        """Return the losses of a micro-batch; see :class:`TokenLosses`."""
        # The hidden state at position t predicts the token at t + 1.
        target_weights = batch.loss_weights[:, 1:]
        selected = target_weights > 0
        targets = batch.input_ids[:, 1:][selected]
        weights = target_weights[selected]
        head = self._output_head()
        is_filler = targets.shape[0] == 0
        if is_filler:
            # The graph has to reach every parameter all the same, or ranks would wait for each
            # other's gradients.
            selected = torch.zeros_like(selected)
            selected[0, 0] = True
            targets, weights = batch.input_ids[:1, 1], torch.zeros_like(batch.loss_weights[:1, 1])
        num_chunks = self._num_chunks(targets, head)
        if num_chunks > 1:
            nll, correct = self._chunked(batch, selected, targets, head, num_chunks)
        else:
            logits = self._logits(batch, selected, head)
            nll, correct = _nll_and_correct(logits, targets)
        if is_filler:
            nll, correct = nll * 0.0, torch.zeros_like(correct)
        return TokenLosses(nll, weights, correct)

    def _num_chunks(self, targets: torch.Tensor, head: torch.nn.Module) -> int:
        """Return in how many calls the head is applied to the positions of ``targets`` [N]."""
        # Of a quantized head, the weight is packed into another shape.
        vocabulary_size = int(getattr(head, "out_features", 0))
        num_chunks = 1
        if self._can_chunk and targets.shape[0] * vocabulary_size > self.max_logits_elements:
            rows = max(1, self.max_logits_elements // vocabulary_size)
            num_chunks = math.ceil(targets.shape[0] / rows)
        if any(hasattr(item, "ds_id") for item in head.parameters()) and dist.is_initialized():
            # ZeRO-3 gathers the head's weight at each call, in which every rank takes part.
            agreed = torch.tensor(num_chunks, device=targets.device)
            dist.all_reduce(agreed, dist.ReduceOp.MAX)
            num_chunks = int(agreed)
        return num_chunks

    def _output_head(self) -> torch.nn.Module:
        model = self.model
        base = model.get_base_model() if hasattr(model, "get_base_model") else model
        head = base.get_output_embeddings()
        assert isinstance(head, torch.nn.Module)
        return head

    def _forward(self, batch: Batch) -> Any:
        # No attention mask: rows are padded on the right, where causal attention never looks from
        # a real token, and what comes out at padding is never used. Without one, the fused causal
        # kernels can be used.
        return self.model(input_ids=batch.input_ids, use_cache=False)

    def _logits(self, batch: Batch, selected: torch.Tensor, head: torch.nn.Module) -> torch.Tensor:
        """Return logits [N, V] at the positions selected in a bool [B, T - 1]."""

        def select(_: Any, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
            return (_gather(inputs[0], selected), *inputs[1:])

        with _pre_hook(head, select):
            logits = self._forward(batch).logits
        assert isinstance(logits, torch.Tensor)
        return logits.reshape(-1, logits.shape[-1])

    def _chunked(
        self,
        batch: Batch,
        selected: torch.Tensor,
        targets: torch.Tensor,
        head: torch.nn.Module,
        num_chunks: int,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Keep the hidden states [N, H] and make logits of one of ``num_chunks`` parts at a time.

        Parts may be empty: of ranks that make equally many calls, one may have few positions.
        """
        kept: list[torch.Tensor] = []

        def keep(_: Any, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
            hidden = _gather(inputs[0], selected)
            kept.append(hidden)
            # Cut off from the graph: nothing goes back through this call, and ZeRO-3 would wait.
            return (hidden[:, :1].detach(), *inputs[1:])

        with _pre_hook(head, keep):
            self._forward(batch)
        hidden = kept[0].reshape(-1, kept[0].shape[-1])

        def chunk_losses(part: torch.Tensor, target: torch.Tensor) -> Any:
            return _nll_and_correct(head(part), target)

        parts = [
            checkpoint(chunk_losses, part, target, use_reentrant=False)
            for part, target in zip(
                hidden.tensor_split(num_chunks), targets.tensor_split(num_chunks), strict=True
            )
        ]
        return torch.cat([nll for nll, _ in parts]), torch.cat([right for _, right in parts])


def _gather(hidden: torch.Tensor, selected: torch.Tensor) -> torch.Tensor:
    """Return the selected positions of hidden states [B, v + T, H] as [1, N, H]."""
    num_virtual = hidden.shape[1] - (selected.shape[1] + 1)
    assert num_virtual >= 0, "the model shortened the sequence"
    mask = F.pad(selected, (num_virtual, 1), value=False)
    return hidden[mask].unsqueeze(0)


@contextmanager
def _pre_hook(module: torch.nn.Module, hook: Any) -> Iterator[None]:
    handle = module.register_forward_pre_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def _nll_and_correct(
    logits: torch.Tensor, targets: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return nll float32 [N] and whether the most likely token is the target, bool [N]."""
    logits = logits.float()
    nll = F.cross_entropy(logits, targets, reduction="none")
    return nll, logits.detach().argmax(dim=-1) == targets
