"""Parameter groups, the optimizer and its schedule."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from typing import Any

import torch
from transformers import get_scheduler

from ift_lightning.errors import UserError, suggest


def parameter_groups(model: torch.nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Return trainable parameters in two groups: matrices decay, biases and norms do not."""
    decayed: list[torch.nn.Parameter] = []
    kept: list[torch.nn.Parameter] = []
    for parameter in model.parameters():
        if parameter.requires_grad:
            # A parameter that ZeRO-3 has cut is flat and empty, and knows what it was.
            shape = getattr(parameter, "ds_shape", parameter.shape)
            (decayed if len(shape) >= 2 else kept).append(parameter)
    groups = [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": kept, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def build_optimizer(
    model: torch.nn.Module, settings: Mapping[str, Any], *, lr: float, weight_decay: float
) -> torch.optim.Optimizer:
    """Instantiate the optimizer that ``settings["_target_"]`` names.

    Args:
        model: Its trainable parameters are optimized.
        settings: ``_target_`` and further keywords.
        lr: Peak learning rate.
        weight_decay: Of matrices.

    Raises:
        UserError: An unknown class or keyword.
    """
    keywords = dict(settings)
    module_name, _, class_name = str(keywords.pop("_target_", "")).rpartition(".")
    try:
        optimizer_class = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(
            f"optimizer.config._target_={module_name}.{class_name}: no such class ({error})"
        ) from error
    valid = set(inspect.signature(optimizer_class).parameters)
    for key in keywords:
        if key not in valid:
            raise UserError(
                f"optimizer.config.{key}: {class_name} has no such option. {suggest(key, valid)}"
            )
    optimizer = optimizer_class(parameter_groups(model, weight_decay), lr=lr, **keywords)
    assert isinstance(optimizer, torch.optim.Optimizer)
    return optimizer


def build_scheduler(
    optimizer: torch.optim.Optimizer,
    *,
    type_name: str,
    num_steps: int,
    warmup_fraction: float = 0.0,
    warmup_steps: int | None = None,
    options: Mapping[str, Any] | None = None,
) -> torch.optim.lr_scheduler.LRScheduler:
    """Return a learning-rate schedule of transformers, in optimizer steps.

    Args:
        optimizer: Whose learning rate is set.
        type_name: A ``transformers.SchedulerType`` such as "linear".
        num_steps: Optimizer steps of the run.
        warmup_fraction: Share of them that warms up.
        warmup_steps: Instead of the share.
        options: ``scheduler_specific_kwargs``.

    Raises:
        UserError: An unknown schedule, or options that it refuses.
    """
    warmup = round(num_steps * warmup_fraction) if warmup_steps is None else warmup_steps
    try:
        scheduler = get_scheduler(
            type_name,
            optimizer,
            num_warmup_steps=warmup,
            num_training_steps=num_steps,
            scheduler_specific_kwargs=dict(options or {}),
        )
    except (TypeError, ValueError) as error:
        raise UserError(f"scheduler.type={type_name}: {error}") from error
    assert isinstance(scheduler, torch.optim.lr_scheduler.LRScheduler)
    return scheduler
