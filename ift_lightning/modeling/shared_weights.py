"""Base weights that models made one after the other in one process have in common.

Arms of a sweep differ in small adapters over one frozen base model. Inside
:func:`sharing_base_weights`, :func:`base_model` reads that model's files once and gives every arm
a model of its own over the very same tensors. Nothing is copied but the module tree, so memory
does not grow with the number of arms.

Whether an arm left the weights alone is seen by their content. PyTorch's version counters would
not do: neither its fused AdamW nor anything that writes through ``.data`` counts them up.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from ift_lightning.modeling.loading import grow_vocabulary, load_base_model, weight_file_stamps


def content_sum(tensor: torch.Tensor) -> int:
    """Return the sum of a tensor's bytes, eight at a time and modulo 2**64.

    It runs at the speed of memory, and any change of a single number changes it.
    """
    data = tensor.detach().contiguous().reshape(-1).view(torch.uint8)
    whole = data.numel() // 8 * 8
    total = data[whole:].sum(dtype=torch.int64)
    if whole:
        total = total + data[:whole].view(torch.int64).sum()
    return int(total)


def copy_over_same_weights(model: torch.nn.Module) -> Any:
    """Return a copy of a model whose parameters are new objects over the same storage.

    Buffers are copied, since some models change theirs in use. Tied parameters stay tied.
    """
    memo: dict[int, Any] = {}
    for parameter in model.parameters():
        again = torch.nn.Parameter(parameter.detach(), parameter.requires_grad)
        again.__dict__.update(parameter.__dict__)  # marks that transformers leaves
        memo[id(parameter)] = again
    return copy.deepcopy(model, memo)


@dataclass(frozen=True)
class _Kept:
    """Weights that the next model may use."""

    key: tuple[Any, ...]
    pattern: Any  # the model as it was loaded; never handed out while it is kept
    sums: Mapping[str, int]

    def is_untouched(self) -> bool:
        return all(
            content_sum(parameter) == self.sums[name]
            for name, parameter in self.pattern.named_parameters()
        )


class SharedBaseWeights:
    """Loads base models, and keeps the weights of the last one for the next."""

    def __init__(self) -> None:
        self._kept: _Kept | None = None

    def forget(self) -> None:
        """Let the weights go."""
        self._kept = None

    def model(
        self,
        path: str,
        *,
        trains_base: bool,
        revision: str | None = None,
        dtype: torch.dtype = torch.float32,
        quantization: Mapping[str, Any] | None = None,
        attention: str | None = None,
        trust_remote_code: bool = False,
        device: torch.device | None = None,
        vocabulary_size: int | None = None,
    ) -> Any:
        """Return what :func:`load_base_model` would, from memory where that is the same.

        Args:
            path: Folder or hub name.
            trains_base: Whether the base weights themselves will be trained. Such a model gets the
                weights to itself, and the next one reads the files again.
            revision: See :func:`load_base_model`, as for the other arguments. Quantized models are
                not shared: their weights are packed together with state of their own.

        Raises:
            UserError: There is no model to be had.
        """
        key = (
            path, revision, dtype, attention, trust_remote_code, weight_file_stamps(path)
        )  # fmt: skip
        kept = self._kept
        if quantization is not None or (kept is not None and kept.key != key):
            # Let go before anything is loaded, so that two models are never in memory for this.
            self._kept = kept = None
        if kept is not None and not kept.is_untouched():
            warnings.warn(
                "the base weights in memory have been changed since they were loaded, though the "
                "method does not train them; they are read again",
                stacklevel=2,
            )
            self._kept = kept = None
        if kept is not None:
            model = kept.pattern if trains_base else copy_over_same_weights(kept.pattern)
            if trains_base:
                self._kept = None
        else:
            model = load_base_model(
                path,
                revision=revision,
                dtype=dtype,
                quantization=quantization,
                attention=attention,
                trust_remote_code=trust_remote_code,
                device=device,
            )
            if quantization is None and not trains_base:
                self._keep(key, model)
        # Embeddings that grow are new tensors, in part random, and so each model's own.
        grow_vocabulary(model, vocabulary_size)
        return model

    def _keep(self, key: tuple[Any, ...], model: Any) -> None:
        pattern = copy_over_same_weights(model)
        sums = {name: content_sum(item) for name, item in pattern.named_parameters()}
        self._kept = _Kept(key, pattern, sums)


_shared = SharedBaseWeights()
_is_sharing = False


@contextmanager
def sharing_base_weights() -> Iterator[None]:
    """Let :func:`base_model` share weights inside the block, also with earlier such blocks.

    Put it around each run of a sweep. A block that fails leaves nothing in memory; after the last
    one, :func:`forget_base_weights` lets go of what is still kept.
    """
    global _is_sharing
    before, _is_sharing = _is_sharing, True
    try:
        yield
    except BaseException:
        forget_base_weights()
        raise
    finally:
        _is_sharing = before


def forget_base_weights() -> None:
    """Let the kept weights go."""
    _shared.forget()


def base_model(path: str, *, trains_base: bool, **options: Any) -> Any:
    """Load a base model, sharing weights inside of :func:`sharing_base_weights`.

    Args:
        path: Folder or hub name.
        trains_base: See :meth:`SharedBaseWeights.model`.
        options: Of :func:`load_base_model`.
    """
    if _is_sharing:
        return _shared.model(path, trains_base=trains_base, **options)
    return load_base_model(path, **options)
