"""What a run's budget makes of its config, and what the run record says about it."""

from __future__ import annotations

import dataclasses
from typing import Any

from ift_lightning import assembly
from ift_lightning.config.schema import TrainConfig
from ift_lightning.data.batching import StepPlanner
from ift_lightning.data.token_cache import TokenizedData
from ift_lightning.modeling.sizing import (
    TOLERANCE,
    SizedMethod,
    build_weightless_model,
    solve_size,
)
from ift_lightning.types import RunRecord

MANY_STEPS = 1_000_000_000
"""Optimizer steps planned where the clock ends the run; the plan is made as it goes."""


def number_of_steps(config: TrainConfig, planner: StepPlanner) -> int:
    """Return how many optimizer steps a run takes, or :data:`MANY_STEPS` with a budget of time."""
    if config.budget.name == "time":
        return MANY_STEPS
    return assembly.number_of_steps(config, planner)


def weightless_base(config: TrainConfig, tokenizer: Any) -> Any:
    """Return a config's base model without storage; see :func:`build_weightless_model`."""
    model = config.model
    return build_weightless_model(
        model.path,
        revision=model.revision,
        trust_remote_code=model.trust_remote_code,
        vocabulary_size=len(tokenizer),
    )


def with_budgeted_size(
    config: TrainConfig, tokenizer: Any, num_steps: int
) -> tuple[TrainConfig, SizedMethod | None]:
    """Return the config with the method's size that ``budget=params`` asks for, and that size.

    Args:
        config: A run.
        tokenizer: Of the run; tokens added to it are counted where they are trained.
        num_steps: Optimizer steps, which AdaLoRA's settings need.

    Returns:
        The config as it is, and None, with every other budget.

    Raises:
        UserError: No size of the method comes near the budget.
    """
    if config.budget.name != "params":
        return config, None
    limit = config.budget.max_trainable_parameters
    assert limit is not None
    base = weightless_base(config, tokenizer)
    positions = getattr(base.config, "max_position_embeddings", None)
    found = solve_size(
        base,
        assembly.peft_settings(config, num_steps),
        limit,
        name=config.peft.name,
        max_virtual_tokens=positions - config.data.max_seq_length if positions else None,
        new_token_ids=tokenizer.convert_tokens_to_ids(list(config.model.add_tokens)),
    )
    if config.peft.config is None:
        return config, found
    peft = dataclasses.replace(config.peft, config={**config.peft.config, **found.size})
    return dataclasses.replace(config, peft=peft), found


def describe_budget(
    config: TrainConfig,
    data: TokenizedData,
    planner: StepPlanner,
    num_steps: int,
    sized: SizedMethod | None,
) -> dict[str, Any]:
    """Return the budget as the run record and the plan show it."""
    budget = config.budget
    entry: dict[str, Any] = {
        "name": budget.name,
        "max_target_tokens": assembly.max_target_tokens(config, data),
    }
    if budget.name == "time":
        # Steps and seconds are known at the end.
        return {**entry, "max_seconds": budget.max_seconds}
    entry["num_steps"] = num_steps
    entry["num_target_tokens"] = planner.num_target_tokens(num_steps)
    if sized is not None:
        entry["max_trainable_parameters"] = sized.max_trainable_parameters
        entry["num_trainable_parameters"] = sized.num_trainable_parameters
        entry["deviation"] = round(sized.deviation, 6)
        entry["within_tolerance"] = not sized.is_off
        entry["size"] = sized.size
        entry["peft_config"] = assembly.plain(sized.settings)
    return entry


def record_spent(record: RunRecord) -> None:
    """Complete a budget of time in the run record with what training made of it."""
    budget, performance = record.data["budget"], record.performance
    if budget["name"] == "time":
        budget["seconds"] = performance["train_seconds"]
        budget["num_steps"] = performance["num_steps"]
        budget["num_target_tokens"] = performance["num_target_tokens_seen"]


def describe_size(sized: SizedMethod, method: str) -> str:
    """Return in one line which size was chosen, with a warning where it misses the budget."""
    shown = ", ".join(f"{key}={value}" for key, value in sized.size.items())
    text = (
        f"{method}: {shown or 'it has no size to choose'}; {sized.num_trainable_parameters:,} "
        f"trainable parameters for a budget of {sized.max_trainable_parameters:,} "
        f"({sized.deviation:+.1%})"
    )
    if sized.is_off:
        text = (
            f"warning: {text}. No size of {method} comes within {TOLERANCE:.0%} of it: the next "
            "one is farther off. The report marks this arm"
        )
    return text
