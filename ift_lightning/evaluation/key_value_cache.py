"""Keys and values of what was read already, in buffers that are filled in place.

The library's growing cache copies all it holds for every token; with small models that copying is
most of the work.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers.cache_utils import Cache, DynamicLayer

_SPARE = 64  # positions by which a full buffer grows


class BufferedLayer(DynamicLayer):
    """Keys and values of one layer; ``keys`` and ``values`` are views of the filled part.

    Args:
        capacity: Positions to make room for at first.
    """

    def __init__(self, capacity: int) -> None:
        super().__init__()
        self.capacity = capacity
        self._buffers: list[torch.Tensor] = []

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Remember dtype and device; buffers are made by the first update."""
        self.dtype, self.device = key_states.dtype, key_states.device
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append states [B, heads, T, head size]; return all there are."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        start = self.get_seq_length()
        stop = start + key_states.shape[-2]
        if not self._buffers:
            self._fill([key_states[:, :, :0], value_states[:, :, :0]], max(self.capacity, stop))
        elif stop > self._buffers[0].shape[-2]:
            self._fill([buffer[:, :, :start] for buffer in self._buffers], stop + _SPARE)
        for buffer, states in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[:, :, start:stop] = states
        self._show(stop)
        assert self.keys is not None and self.values is not None
        return self.keys, self.values

    def get_seq_length(self) -> int:
        """Return the number of positions that are filled."""
        return 0 if self.keys is None else int(self.keys.shape[-2])

    def _fill(self, states: Sequence[torch.Tensor], room: int) -> None:
        """Make buffers of ``room`` positions that begin with keys and values."""
        self._buffers = [part.new_empty((*part.shape[:2], room, part.shape[3])) for part in states]
        length = states[0].shape[-2]
        for buffer, part in zip(self._buffers, states, strict=True):
            buffer[:, :, :length] = part
        self._show(length)

    def _show(self, length: int) -> None:
        self.keys, self.values = (buffer[:, :, :length] for buffer in self._buffers)

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Keep the rows at ``indices``, in that order; one may be named several times."""
        if self.keys is None:
            return
        assert self.values is not None
        chosen = [part.index_select(0, indices) for part in (self.keys, self.values)]
        self._fill(chosen, self._buffers[0].shape[-2])

    def copy_rows(self, indices: torch.Tensor, capacity: int) -> BufferedLayer:
        """Return a layer of its own with the rows at ``indices`` and room for ``capacity``."""
        copy = BufferedLayer(capacity)
        if self.keys is None or self.values is None:
            return copy
        copy.lazy_initialization(self.keys, self.values)
        chosen = [part.index_select(0, indices) for part in (self.keys, self.values)]
        copy._fill(chosen, max(capacity, self.get_seq_length()))
        return copy


class BufferedCache(Cache):
    """Keys and values of all layers.

    Args:
        layers: One for each layer of the model.
    """

    def __init__(self, layers: Sequence[BufferedLayer]) -> None:
        super().__init__(layers=list(layers))

    @classmethod
    def empty(cls, num_layers: int, capacity: int) -> BufferedCache:
        """Return a cache that holds nothing yet."""
        return cls([BufferedLayer(capacity) for _ in range(num_layers)])

    @classmethod
    def holding(cls, states: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> BufferedCache:
        """Return a cache that holds keys and values [B, heads, T, head size] of each layer."""
        cache = cls.empty(len(states), states[0][0].shape[-2])
        for layer, (keys, values) in zip(cache.layers, states, strict=True):
            layer.update(keys, values)
        return cache

    def copy_rows(self, indices: torch.Tensor, capacity: int) -> BufferedCache:
        """Return a cache of its own with the rows at ``indices``, int64 [B]."""
        return BufferedCache([layer.copy_rows(indices, capacity) for layer in self.layers])
