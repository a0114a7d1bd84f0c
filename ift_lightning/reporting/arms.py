"""Groups runs into arms: runs that differ in their seed alone are replicates of one arm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ift_lightning.errors import UserError
from ift_lightning.reporting.runs import Run

NOT_FACTORS = (
    "seed",
    "name",
    "run_dir",
    "resume",
    "experiment",
    "logger",
    "measure_before",
    "evaluate",
    "trainer.progress_bar",
    "trainer.log_every_n_steps",
    "trainer.num_threads",
    "trainer.eval_batch_size",
    "data.cache_dir",
    "data.num_workers",
    "generation.batch_size",
    "generation.keep_completions",
    "num_shown",
)
"""Options that do not make another arm: replicates, names, and what only changes the display."""


@dataclass(frozen=True)
class Arm:
    """Runs that were made alike, but for their seeds.

    Args:
        name: What a reader knows it by: "lora", or "peft=lora, cot_level=none".
        factors: Option to value, of the options that differ between arms.
        runs: By seed.
    """

    name: str
    factors: Mapping[str, str]
    runs: tuple[Run, ...] = field(default=())

    @property
    def seeds(self) -> list[int]:
        return [run.seed for run in self.runs]

    def values(self, section: str, key: str) -> list[Any]:
        """Return a value of each run's record."""
        return [run.record[section].get(key) for run in self.runs]


def is_factor(key: str) -> bool:
    """Whether an option can tell arms apart."""
    return key not in NOT_FACTORS and not key.startswith(("hydra.", "hydra/", "logger."))


def group_into_arms(runs: Sequence[Run]) -> list[Arm]:
    """Group runs by the options that differ between them, seeds as replicates.

    Raises:
        UserError: Two runs are alike down to the seed, so that neither could count.
    """
    keys = _factor_keys(runs)
    groups: dict[tuple[str, ...], list[Run]] = {}
    for run in runs:
        groups.setdefault(tuple(option_value(run, key) for key in keys), []).append(run)
    with_keys = len(keys) != 1 or _needs_keys([values[0] for values in groups])
    arms = []
    for values, members in groups.items():
        factors = dict(zip(keys, values, strict=True))
        ordered = tuple(sorted(members, key=lambda run: run.seed))
        _refuse_twins(ordered)
        name = _name(factors, ordered[0], with_keys=with_keys)
        arms.append(Arm(name, factors, ordered))
    return _with_unique_names(arms)


def _factor_keys(runs: Sequence[Run]) -> list[str]:
    """Return the overridden options whose values differ, in the order of the command lines."""
    keys = dict.fromkeys(key for run in runs for key in run.overrides if is_factor(key))
    differing = [key for key in keys if len({option_value(run, key) for run in runs}) > 1]
    # Runs of another command (a base model, evaluated) have no override in common with the others.
    if not differing and len({run.name for run in runs}) > 1:
        return ["name"]
    return differing


def option_value(run: Run, key: str) -> str:
    """Return an option's value: as it was overridden, or as the composed config has it."""
    if key == "name":
        return run.name
    if key in run.overrides:
        return run.overrides[key]
    node: Any = run.config
    for part in key.replace("/", ".").split("."):
        node = node.get(part) if isinstance(node, dict) else None
    if isinstance(node, dict):
        node = node.get("name")
    return "default" if node is None else str(node)


_NOT_WORDS = ("true", "false", "none", "null", "default", "auto", "standard")
"""Values that say nothing without their option."""


def _name(factors: Mapping[str, str], run: Run, *, with_keys: bool) -> str:
    if not factors:
        return run.name
    if not with_keys:
        return next(iter(factors.values()))
    return ", ".join(f"{key}={value}" for key, value in factors.items())


def _needs_keys(values: Sequence[str]) -> bool:
    """Whether any value of the only factor is a number, or a word that fits any option."""
    return any(
        value.lower() in _NOT_WORDS or not any(c.isalpha() for c in value.replace("e", ""))
        for value in values
    )


def _refuse_twins(runs: Sequence[Run]) -> None:
    for first, second in zip(runs, runs[1:], strict=False):
        if first.seed == second.seed:
            raise UserError(
                f"{first.folder} and {second.folder} are the same arm with the same seed "
                f"{first.seed}. Leave one of them out: counting both would make a result look "
                "surer than it is"
            )


def _with_unique_names(arms: list[Arm]) -> list[Arm]:
    names = [arm.name for arm in arms]
    if len(set(names)) == len(names):
        return arms
    return [Arm(f"{arm.name} ({arm.runs[0].folder.name})", arm.factors, arm.runs) for arm in arms]
