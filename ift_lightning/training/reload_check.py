"""Proof that what was saved is what was trained."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ift_lightning.modeling.adapters import load_adapter, peft_type
from ift_lightning.types import Batch


def reload_difference(
    model: Any,
    folder: Path,
    load_base: Callable[[], Any],
    load_full: Callable[[Path], Any],
    batch: Batch,
) -> float:
    """Return how far the logits of a saved and reloaded model are from the trained one's.

    Args:
        model: Trained model.
        folder: Where it was saved.
        load_base: Loads the base model anew, as it was for training.
        load_full: Loads a fully tuned model from its folder.
        batch: Some rows.

    Returns:
        The largest absolute difference, over the largest absolute logit (at least 1).
    """
    has_adapter = peft_type(model) is not None
    again = load_adapter(load_base(), folder) if has_adapter else load_full(folder)
    device = next(model.parameters()).device
    again = again.to(device) if not getattr(again, "is_quantized", False) else again
    batch = batch.to(device)
    logits = []
    for candidate in (model, again):
        was_training = candidate.training
        candidate.eval()
        with torch.no_grad():
            output = candidate(
                input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False
            )
        candidate.train(was_training)
        # Virtual tokens stand before the row, and padding behind it: compare what counts.
        rows = output.logits[:, -batch.input_ids.shape[1] :].float()
        logits.append(rows[batch.attention_mask.bool()])
    scale = max(1.0, float(logits[0].abs().max()))
    return float((logits[0] - logits[1]).abs().max()) / scale
