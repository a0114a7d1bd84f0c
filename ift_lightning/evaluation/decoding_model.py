"""One interface to a model that generates: plain, with an adapter, or with virtual tokens."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

from ift_lightning.evaluation.key_value_cache import BufferedCache
from ift_lightning.modeling.adapters import PROMPT_LEARNING, peft_type


class DecodingModel:
    """A causal language model that reads tokens into a cache, and tells what may come next.

    Virtual tokens (prefix tuning, P-tuning, prompt tuning) are the beginning of the cache. They
    stand before the padding, where they were in training: at positions 0 to v - 1.

    Args:
        model: Hugging Face model, or a PEFT model around it.
        use_adapter: Generate with the adapter; otherwise as the base model would.
        autocast: Type that matrix products are done in; None for the weights' own.
    """

    def __init__(
        self, model: Any, *, use_adapter: bool = True, autocast: torch.dtype | None = None
    ) -> None:
        self.model = model
        method = peft_type(model)
        self._has_virtual_tokens = use_adapter and method in PROMPT_LEARNING
        self._switches_off = not use_adapter and method is not None
        self._base = model.get_base_model() if method is not None else model
        self._autocast = autocast
        self.config = self._base.config
        self.generation_config = getattr(self._base, "generation_config", None)

    @property
    def device(self) -> torch.device:
        return next(iter(self._base.parameters())).device

    @property
    def max_positions(self) -> int | None:
        """Tokens that the model was made to read at most; None where it does not say."""
        limit = getattr(self.config, "max_position_embeddings", None)
        return int(limit) if limit else None

    @property
    def window(self) -> int | None:
        """Tokens that a position sees at most; None for all."""
        kinds = getattr(self.config, "layer_types", None)
        if kinds is not None and not any("sliding" in kind for kind in kinds):
            return None
        window = getattr(self.config, "sliding_window", None)
        return int(window) if window else None

    @contextlib.contextmanager
    def generating(self) -> Iterator[None]:
        """Put the model into the state that generation needs, and back again after the block."""
        was_training = self.model.training
        self.model.eval()
        autocast = torch.autocast(
            self.device.type, dtype=self._autocast, enabled=self._autocast is not None
        )
        adapter = self.model.disable_adapter() if self._switches_off else contextlib.nullcontext()
        try:
            with torch.no_grad(), autocast, adapter:
                yield
        finally:
            self.model.train(was_training)

    def new_cache(self, capacity: int) -> BufferedCache:
        """Return a cache of one row that holds the virtual tokens, where there are any."""
        empty = BufferedCache.empty(int(self.config.num_hidden_layers), capacity)
        if not self._has_virtual_tokens:
            return empty
        prompt = self.model.get_prompt(batch_size=1)
        if isinstance(prompt, torch.Tensor):
            embedded = prompt.to(self._base.get_input_embeddings().weight.dtype)
            self._base(inputs_embeds=embedded, past_key_values=empty, use_cache=True)
            return empty
        return BufferedCache.holding([(layer.keys, layer.values) for layer in prompt.layers])

    def read(
        self,
        input_ids: torch.Tensor,
        cache: BufferedCache,
        attention_mask: torch.Tensor,
        position_ids: torch.Tensor,
    ) -> torch.Tensor:
        """Read tokens behind what the cache holds, and add them to it.

        Args:
            input_ids: int64 [B, T].
            cache: Of B rows.
            attention_mask: int64 [B, cached + T], 0 on padding.
            position_ids: int64 [B, T].

        Returns:
            Logits of the token after the last one, float32 [B, V].
        """
        output = self._base(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        logits: torch.Tensor = output.logits[:, -1].float()
        return logits
