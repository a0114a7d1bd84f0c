"""Cuts a model into the units that FSDP2 gathers one at a time: its decoder layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ift_lightning.errors import UserError


@dataclass(frozen=True)
class ShardingOptions:
    """How FSDP2 keeps and moves what it shards.

    Args:
        param_dtype: Weights are gathered and used in it ("bfloat16"); None for their own.
        reduce_dtype: Gradients are summed over ranks in it; None for ``param_dtype``.
        cpu_offload: Keep shards, gradients and optimizer state in main memory.
        reshard_after_forward: Drop a layer's gathered weights after its forward pass and gather
            them again in the backward pass (ZeRO-3); False keeps them (ZeRO-2).
    """

    param_dtype: str | None = None
    reduce_dtype: str | None = None
    cpu_offload: bool = False
    reshard_after_forward: bool = True


def decoder_layers(model: nn.Module) -> list[nn.Module]:
    """Return the decoder layers of a Hugging Face model, with or without an adapter.

    They are the longest ``ModuleList`` of modules of one class, whatever a family calls it
    (``layers``, ``h``). ``_no_split_modules``, which families set for the same purpose, goes
    first where it names classes that are there.

    Raises:
        UserError: The model has none.
    """
    named = {
        name
        for module in model.modules()
        for name in getattr(module, "_no_split_modules", ()) or ()
    }
    layers = [module for module in model.modules() if type(module).__name__ in named]
    if layers:
        return layers
    lists = [
        list(module)
        for module in model.modules()
        if isinstance(module, nn.ModuleList) and len({type(item) for item in module}) == 1
    ]
    if not lists:
        raise UserError(
            f"strategy=fsdp: no decoder layers to shard found in {type(model).__name__}; use "
            "strategy=ddp"
        )
    return max(lists, key=len)


def shard_model(model: nn.Module, mesh: Any, options: ShardingOptions) -> None:
    """Shard a model in place over the ranks of a mesh, layer by layer, then what is left.

    Args:
        model: With its adapter, on any device. Each layer moves to the mesh's device as it is
            sharded.
        mesh: One-dimensional device mesh.
        options: How.
    """
    from torch.distributed.fsdp import (
        CPUOffloadPolicy,
        MixedPrecisionPolicy,
        OffloadPolicy,
        fully_shard,
    )

    keywords: dict[str, Any] = {
        "mesh": mesh,
        "mp_policy": MixedPrecisionPolicy(
            param_dtype=_dtype(options.param_dtype),
            reduce_dtype=_dtype(options.reduce_dtype),
            cast_forward_inputs=options.param_dtype is not None,
        ),
        "offload_policy": CPUOffloadPolicy(pin_memory=torch.cuda.is_available())
        if options.cpu_offload
        else OffloadPolicy(),
    }
    for layer in decoder_layers(model):
        fully_shard(layer, reshard_after_forward=options.reshard_after_forward, **keywords)
    fully_shard(model, **keywords)


def _dtype(name: str | None) -> torch.dtype | None:
    if name is None:
        return None
    dtype = getattr(torch, name, None)
    if not isinstance(dtype, torch.dtype):
        raise UserError(f"strategy: '{name}' is no torch dtype; use bfloat16 or float32")
    return dtype
