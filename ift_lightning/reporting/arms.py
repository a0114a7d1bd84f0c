"""Groups runs into arms: runs that differ in their seed alone are replicates of one arm."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

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
    "sandbox.num_workers",
    "num_shown",
)
"""Options that do not make another arm: replicates, names, and what only changes the display."""

_NOT_FACTOR_GROUPS = ("hydra.", "hydra/", "logger.", "sweep.", "audit.")


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
    return key not in NOT_FACTORS and not key.startswith(_NOT_FACTOR_GROUPS)


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
        ordered = tuple(sorted(members, key=lambda run: run.seed))
        # Named as it was written, where it was.
        written = ordered[0].overrides
        factors = {key: written.get(key, value) for key, value in zip(keys, values, strict=True)}
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
    """Return an option's value, the same text however it was spelled.

    The composed config knows it where the option is one value. Of a group it knows the name that
    the file gives itself, which several files may share: there, the command line comes first.
    """
    if key == "name":
        return run.name
    overridden = run.overrides.get(key)
    node: Any = run.config
    for part in key.replace("/", ".").split("."):
        if not isinstance(node, dict) or part not in node:
            return "default" if overridden is None else plain_text(overridden)
        node = node[part]
    if isinstance(node, dict) or (isinstance(node, str) and "${" in node):
        if overridden is not None:
            return plain_text(overridden)
        node = node.get("name", "default") if isinstance(node, dict) else node
    return plain_text(node)


def plain_text(value: Any) -> str:
    """Return one text for all spellings of a value, such as ``1e-3`` and ``0.001``."""
    if isinstance(value, str):
        value = _parsed(value)
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    if isinstance(value, list):
        return f"[{', '.join(plain_text(item) for item in value)}]"
    if isinstance(value, dict):
        items = (f"{key}: {plain_text(item)}" for key, item in sorted(value.items()))
        return f"{{{', '.join(items)}}}"
    return str(value)


def _parsed(text: str) -> Any:
    """Return what an override's text stands for; YAML alone takes ``1e-3`` for a word."""
    if _NUMBER.fullmatch(text):
        return int(text) if text.lstrip("+-").isdecimal() else float(text)
    if text.lower() in ("true", "false", "null") or text[:1] in ("[", "{", "'", '"'):
        with contextlib.suppress(yaml.YAMLError):
            return yaml.safe_load(text.lower() if text.isalpha() else text)
    return text


_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


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
