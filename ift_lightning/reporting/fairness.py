"""Whether arms can be compared: what differs between them besides what is compared."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ift_lightning.reporting.arms import Arm, is_factor, plain_text
from ift_lightning.reporting.aspects import ASPECTS, Aspect
from ift_lightning.reporting.aspects import Kind as Kind
from ift_lightning.reporting.budgets import budget_leaves_free, common_budget, missed_sizes

MARKED = (Kind.ROWS, Kind.BUDGET, Kind.EVALUATION, Kind.BASE, Kind.SEEDS, Kind.CONFIG)
"""Kinds for which an arm is marked in the tables; the others are only named."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not the same in all arms.

    Args:
        aspect: What it is, in words.
        kind: What it puts in doubt.
        values: Arm to value, in words.
        odd_arms: Arms whose value is not the most common one; all, where none is.
        follows: Whether it follows from the factor itself (a method's own learning rate).
        consequence: What it means for the comparison; may be empty.
    """

    aspect: str
    kind: Kind
    values: dict[str, str]
    odd_arms: tuple[str, ...]
    follows: bool = False
    consequence: str = ""


@dataclass(frozen=True, slots=True)
class Fairness:
    """The outcome of the checks.

    Args:
        findings: What differs.
        same: What was checked and is the same in all arms.
        unknown: What no record says.
    """

    findings: list[Finding] = field(default_factory=list)
    same: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)

    def differs(self, aspect: str) -> bool:
        """Whether arms differ in something, wanted or not."""
        return any(finding.aspect == aspect for finding in self.findings)

    def marks(self, arm: str) -> list[str]:
        """Return in what an arm is unlike the others, where that makes the comparison unfair."""
        return [
            finding.aspect
            for finding in self.findings
            if arm in finding.odd_arms and finding.kind in MARKED and not finding.follows
        ]


def check_fairness(arms: Sequence[Arm]) -> Fairness:
    """Compare what arms were given: rows, budget, evaluation, base model, seeds, options, machine.

    Args:
        arms: Of one alone, only its own runs are held against each other.
    """
    result = Fairness()
    _compare_within(arms, result)
    if len(arms) < 2:
        return result
    _compare_seeds(arms, result)
    for aspect in ASPECTS:
        _compare_aspect(aspect, arms, result)
    _compare_sizes(arms, result)
    _compare_configs(arms, result)
    return result


def check_evaluations(arms: Sequence[Arm]) -> Fairness:
    """Compare how models were evaluated, where one of them was not trained.

    Args:
        arms: The base model and the tuned one.
    """
    result = Fairness()
    for aspect in ASPECTS:
        # Of a model that was not trained, no loss was weighted.
        is_evaluation = aspect.kind is Kind.EVALUATION and "loss" not in aspect.decided_by
        if is_evaluation or aspect.kind in (Kind.BASE, Kind.MACHINE) or aspect.name == "test rows":
            _compare_aspect(aspect, arms, result)
    return result


def _compare_seeds(arms: Sequence[Arm], result: Fairness) -> None:
    values = {arm.name: ", ".join(map(str, arm.seeds)) for arm in arms}
    if len(set(values.values())) == 1:
        result.same.append("seeds")
        return
    result.findings.append(
        Finding("seeds", Kind.SEEDS, values, _odd(values), consequence="the arms were repeated "
                "differently")
    )  # fmt: skip


def _compare_aspect(aspect: Aspect, arms: Sequence[Arm], result: Fairness) -> None:
    raw = {arm.name: _by_seed(aspect, arm) for arm in arms}
    if all(value is None for runs in raw.values() for value in runs.values()):
        result.unknown.append(aspect.name)
        return
    # Seeds draw different rows, so that an arm may be compared only seed by seed.
    common = set.intersection(*(set(runs) for runs in raw.values()))
    keyed = {
        name: json.dumps(
            [runs[seed] for seed in sorted(common)] if common else _distinct(runs), sort_keys=True
        )
        for name, runs in raw.items()
    }
    if len(set(keyed.values())) == 1:
        result.same.append(aspect.name)
        return
    odd = _odd(keyed)
    shown = {name: _shown(list(runs.values())) for name, runs in raw.items()}
    if len(set(shown.values())) == 1:  # such as two fingerprints that begin alike
        shown = {name: f"{text} (differs)" if name in odd else text for name, text in shown.items()}
    by_budget = budget_leaves_free(aspect.name, arms)
    factor = "" if by_budget else _deciding_factor(aspect, arms, keyed)
    consequence = aspect.consequence
    if by_budget:
        consequence = "the common budget leaves it free"
    elif factor:
        consequence = f"it follows from {factor}"
        if aspect.kind is Kind.EVALUATION and aspect.consequence:
            consequence += f"; {aspect.consequence}"
    result.findings.append(
        Finding(
            aspect.name,
            aspect.kind,
            shown,
            odd,
            follows=by_budget or bool(factor),
            consequence=consequence,
        )
    )


def _deciding_factor(aspect: Aspect, arms: Sequence[Arm], keyed: dict[str, str]) -> str:
    """Return the factors that explain a difference by design; empty where they do not.

    Arms that have the same values of them must agree: peft=lora and peft=prefix at one level have
    no reason to learn from other tokens.
    """
    if aspect.name == "target tokens seen" and common_budget(arms) == "target_tokens":
        return ""  # which was to keep it the same
    options = [key for key in arms[0].factors if _group(key) in aspect.decided_by]
    by_value: dict[tuple[str, ...], set[str]] = {}
    for arm in arms:
        value = tuple(arm.factors[key] for key in options)
        by_value.setdefault(value, set()).add(keyed[arm.name])
    explained = bool(options) and all(len(found) == 1 for found in by_value.values())
    return ", ".join(options) if explained else ""


def _group(key: str) -> str:
    return key.replace("/", ".").partition(".")[0]


def _compare_within(arms: Sequence[Arm], result: Fairness) -> None:
    """Name what runs of one arm do not have in common, though only their seeds should differ."""
    odd: dict[tuple[str, Kind, str], dict[str, str]] = {}
    for arm in arms:
        for aspect in ASPECTS:
            found = [aspect.of_run(run) for run in arm.runs] if aspect.same_in_arm else []
            texts = list(dict.fromkeys(_text(value) for value in found if value is not None))
            if len(texts) > 1:
                key = (aspect.name, aspect.kind, aspect.consequence)
                odd.setdefault(key, {})[arm.name] = "; ".join(texts)
        for option, texts in _differing_options(arm).items():
            key = (f"option {option}", Kind.CONFIG, "its spread is not that of seeds alone")
            odd.setdefault(key, {})[arm.name] = "; ".join(texts)
    for (name, kind, consequence), values in odd.items():
        result.findings.append(
            Finding(
                f"runs of one arm differ in: {name}",
                kind,
                values,
                tuple(values),
                consequence=consequence,
            )
        )


def _differing_options(arm: Arm) -> dict[str, list[str]]:
    """Return options that runs of an arm do not agree on; one that a run lacks is a newer one."""
    values: dict[str, dict[str, None]] = {}
    for run in arm.runs:
        for key, value in _flat(run.config).items():
            if is_factor(key) and _group(key) != "logger":
                values.setdefault(key, {})[plain_text(value)] = None
    return {key: list(texts) for key, texts in values.items() if len(texts) > 1}


def _compare_sizes(arms: Sequence[Arm], result: Fairness) -> None:
    """Name arms whose method has no size that comes near a budget of trainable parameters."""
    missed = missed_sizes(arms)
    if missed is None:
        return
    aspect = "budget of trainable parameters"
    if not missed:
        result.same.append(aspect)
        return
    values = {arm.name: missed.get(arm.name, "kept") for arm in arms}
    why = "no size of the method comes nearer"
    result.findings.append(Finding(aspect, Kind.BUDGET, values, tuple(missed), consequence=why))


def _by_seed(aspect: Aspect, arm: Arm) -> dict[int, Any]:
    return {run.seed: aspect.of_run(run) for run in arm.runs}


def _distinct(runs: dict[int, Any]) -> list[str]:
    return sorted({json.dumps(value, sort_keys=True) for value in runs.values()})


def _odd(values: dict[str, str]) -> tuple[str, ...]:
    """Return the arms without the most common value; all of them where there is no such value."""
    (usual, count), *others = Counter(values.values()).most_common(2)
    if any(other == count for _, other in others):
        return tuple(values)
    return tuple(name for name, value in values.items() if value != usual)


def _shown(values: list[Any]) -> str:
    texts = list(dict.fromkeys(_text(value) for value in values))
    numbers = [value for value in values if isinstance(value, int | float)]
    if len(texts) > 1 and len(numbers) == len(values):
        return f"{min(numbers):,} to {max(numbers):,}"
    return "; ".join(texts)


def _text(value: Any) -> str:
    if value is None:
        return "not recorded"
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, list):
        shown = ", ".join(map(str, value[:3]))
        return f"{len(value)} ({shown}{', …' if len(value) > 3 else ''})" if value else "none"
    if isinstance(value, dict):
        return ", ".join(f"{key}={item}" for key, item in sorted(value.items()))
    return str(value)


def _compare_configs(arms: Sequence[Arm], result: Fairness) -> None:
    """Name every option that differs, and whether it belongs to what is compared."""
    configs = {arm.name: _flat(arm.runs[0].config) for arm in arms}
    if not all(configs.values()):
        result.unknown.append("options (a run has no .hydra/config.yaml)")
        return
    factors = tuple(key.replace("/", ".") for key in arms[0].factors)
    keys = dict.fromkeys(key for config in configs.values() for key in config)
    others = 0
    for key in keys:
        values = {name: _option_text(config, key) for name, config in configs.items()}
        if len(set(values.values())) == 1 or not is_factor(key) or _group(key) == "logger":
            continue
        if key in factors or key in {f"{factor}.name" for factor in factors}:
            continue  # the factor itself
        follows = any(key.startswith(f"{factor}.") for factor in factors)
        others += not follows
        result.findings.append(
            Finding(f"option {key}", Kind.CONFIG, values, _odd(values), follows=follows)
        )
    if not others:
        result.same.append("every other option")


def _option_text(config: dict[str, Any], key: str) -> str:
    return plain_text(config[key]) if key in config else "none"


def _flat(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, dict) and value:
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
