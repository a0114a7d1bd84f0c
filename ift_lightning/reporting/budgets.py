"""What a common budget leaves free between arms, and which arms missed theirs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ift_lightning.reporting.arms import Arm

_LEFT_FREE = {
    "time": ("optimizer steps", "target tokens seen"),
    "target_tokens": ("optimizer steps",),
}
"""Budget to what differs by design between arms that have it."""


def budget_leaves_free(aspect: str, arms: Sequence[Arm]) -> bool:
    """Whether a difference is one that the common budget of all arms leaves free."""
    return aspect in _LEFT_FREE.get(common_budget(arms), ())


def common_budget(arms: Sequence[Arm]) -> str:
    """Return the name of the budget that all runs of all arms have; empty where they do not."""
    budgets = [_budget(arm, index) for arm in arms for index in range(len(arm.runs))]
    names = {budget.get("name") for budget in budgets}
    limits = {(budget.get("max_seconds"), budget.get("max_target_tokens")) for budget in budgets}
    if len(names) != 1 or len(limits) != 1:
        return ""
    return str(names.pop() or "")


def missed_sizes(arms: Sequence[Arm]) -> dict[str, str] | None:
    """Return arms that missed their budget of trainable parameters, and by how much, in words.

    Returns:
        Empty where all kept it; None where an arm had no such budget.
    """
    missed = {}
    for arm in arms:
        budget = _budget(arm, 0)
        if budget.get("name") != "params":
            return None
        if not budget.get("within_tolerance"):
            count, limit = budget["num_trainable_parameters"], budget["max_trainable_parameters"]
            missed[arm.name] = f"{count:,} instead of {limit:,}"
    return missed


def _budget(arm: Arm, index: int) -> dict[str, Any]:
    budget = arm.runs[index].record["data"].get("budget")
    return budget if isinstance(budget, dict) else {}
