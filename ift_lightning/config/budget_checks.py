"""Budgets that contradict other options, refused before anything is loaded."""

from __future__ import annotations

from ift_lightning.config.schema import TrainConfig
from ift_lightning.errors import UserError

_LIMITS = {
    "target_tokens": "max_target_tokens",
    "params": "max_trainable_parameters",
    "time": "max_seconds",
}
"""Budget to the number that it goes by."""

_WITHOUT_END = ("constant", "constant_with_warmup")
"""Schedules that do not need to know how long a run will be."""


def check_budget(config: TrainConfig) -> None:
    """Refuse a budget without its number, and options that it contradicts.

    Raises:
        UserError: The option, the reason, and an alternative.
    """
    budget = config.budget
    for name, limit in _LIMITS.items():
        value = getattr(budget, limit)
        if value is not None and name != budget.name:
            raise UserError(f"budget.{limit}={value} goes together with budget={name}")
        if value is not None and value <= 0:
            raise UserError(f"budget.{limit}={value} has to be above 0")
    if budget.name == "target_tokens":
        _check_target_tokens(config)
    elif budget.name == "params" and budget.max_trainable_parameters is None:
        raise UserError(
            "budget=params needs a number of trainable parameters: "
            "budget.max_trainable_parameters=N. python -m ift_lightning.plan shows how many a "
            "method has"
        )
    elif budget.name == "time":
        _check_time(config)


def _check_target_tokens(config: TrainConfig) -> None:
    if config.trainer.max_steps is not None:
        raise UserError(
            f"budget=target_tokens and trainer.max_steps={config.trainer.max_steps} both say how "
            "long the run is; leave one of them out"
        )
    if config.budget.max_target_tokens is None and not config.data.require_levels:
        raise UserError(
            "budget=target_tokens needs a number, budget.max_target_tokens=N, or the levels of "
            "reasoning that are compared, data.require_levels=[simple,normal,complex]: the one "
            "with the fewest target tokens is the measure then"
        )


def _check_time(config: TrainConfig) -> None:
    scheduler = config.scheduler
    if config.budget.max_seconds is None:
        raise UserError("budget=time needs a number of seconds: budget.max_seconds=S")
    if config.trainer.max_steps is not None:
        raise UserError(
            f"budget=time and trainer.max_steps={config.trainer.max_steps} both say how long the "
            "run is; leave one of them out"
        )
    target = str((config.peft.config or {}).get("_target_", ""))
    if config.peft.adalora_schedule is not None or target.endswith("AdaLoraConfig"):
        raise UserError(
            f"peft={config.peft.name} takes its ranks away step by step, and has to know the "
            "number of steps before it starts, which budget=time leaves open; use budget=epochs "
            "or trainer.max_steps, or peft=lora"
        )
    if scheduler.type not in _WITHOUT_END:
        raise UserError(
            f"scheduler={scheduler.name} moves the learning rate by the share of steps that are "
            "done, and with budget=time nobody knows that share: following the clock instead, no "
            "run could be repeated. Use scheduler=constant, or scheduler=constant_with_warmup "
            "scheduler.warmup_steps=N"
        )
    if scheduler.type == "constant_with_warmup" and scheduler.warmup_steps is None:
        raise UserError(
            "budget=time leaves the number of steps open, so scheduler.warmup_fraction is a "
            "fraction of nothing; give scheduler.warmup_steps=N"
        )
