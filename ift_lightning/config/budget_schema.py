"""What arms of a comparison have in common besides their rows (``conf/budget``)."""

from __future__ import annotations

from dataclasses import dataclass

from omegaconf import MISSING


@dataclass
class BudgetConfig:
    """What is the same in all arms: passes over the rows, target tokens, parameters, or time."""

    name: str = MISSING
    # budget=target_tokens: supervised tokens of the whole run. None: trainer.max_epochs passes of
    # the level in data.require_levels that has the fewest.
    max_target_tokens: int | None = None
    # budget=params: trainable parameters; each method's size is chosen to come nearest to it.
    max_trainable_parameters: int | None = None
    # budget=time: seconds of training, without validation, evaluation and saving.
    max_seconds: float | None = None
