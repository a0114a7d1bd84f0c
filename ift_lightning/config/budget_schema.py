"""What ends a run besides its number of steps (``conf/budget``)."""

from __future__ import annotations

from dataclasses import dataclass

from omegaconf import MISSING


@dataclass
class BudgetConfig:
    """How long arms of a comparison train: by passes over the rows, or by target tokens."""

    name: str = MISSING
    # budget=target_tokens: supervised tokens of the whole run. None: trainer.max_epochs passes of
    # the level in data.require_levels that has the fewest.
    max_target_tokens: int | None = None
