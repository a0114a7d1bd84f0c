"""Whether arms can be compared: what differs between them besides what is compared."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from ift_lightning.reporting.arms import Arm, is_factor
from ift_lightning.reporting.budgets import budget_leaves_free, missed_sizes
from ift_lightning.reporting.runs import Run


class Kind(StrEnum):
    """What a difference puts in doubt."""

    ROWS = "rows"
    BUDGET = "budget"
    EVALUATION = "evaluation"
    BASE = "base model"
    SEEDS = "seeds"
    CONFIG = "config"
    MACHINE = "machine and software"


MARKED = (Kind.ROWS, Kind.BUDGET, Kind.EVALUATION, Kind.BASE, Kind.SEEDS, Kind.CONFIG)
"""Kinds for which an arm is marked in the tables; the others are only named."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not the same in all arms.

    Args:
        aspect: What it is, in words.
        kind: What it puts in doubt.
        values: Arm to value, in words.
        odd_arms: Arms whose value is not the most common one.
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


@dataclass(frozen=True, slots=True)
class _Aspect:
    name: str
    kind: Kind
    of_run: Callable[[Run], Any]
    consequence: str = ""


def _at(*path: str) -> Callable[[Run], Any]:
    def look(run: Run) -> Any:
        node: Any = run.record
        for key in path:
            node = node.get(key) if isinstance(node, dict) else None
        return node

    return look


def _decoding(run: Run) -> Any:
    found = _at("audit", "evaluation", "decoding")(run)
    return found if found is not None else _at("data", "decoding")(run)


def _excluded(run: Run) -> Any:
    found = _at("audit", "evaluation", "excluded")(run)
    return None if found is None else sorted(found)


def _packages(run: Run) -> Any:
    found = _at("environment", "packages")(run)
    return None if not found else ", ".join(f"{name} {found[name]}" for name in sorted(found))


def _machine(run: Run) -> Any:
    hardware = _at("environment", "hardware")(run)
    if not isinstance(hardware, dict):
        return None
    gpus = [gpu.get("name") for gpu in hardware.get("gpus") or []]
    return ", ".join([f"{hardware.get('cpu')} ({hardware.get('cpu_cores')} cores)", *gpus])


def _source(run: Run) -> Any:
    commit = _at("environment", "git_commit")(run)
    if commit is None:
        return None
    return f"{commit[:12]}{' with local changes' if run.record['environment'].get('git_dirty') else ''}"  # noqa: E501


_LOSSES = "losses and perplexities do not compare, since they are means over other tokens"

_ASPECTS = (
    _Aspect("training rows", Kind.ROWS, _at("data", "ids_fingerprint", "train"),
            "the arms learned from different rows"),
    _Aspect("validation rows", Kind.ROWS, _at("data", "ids_fingerprint", "val"),
            "best checkpoints were chosen on different rows"),
    _Aspect("test rows", Kind.ROWS, _at("data", "ids_fingerprint", "test"),
            "problems are compared only where all arms have them; losses do not compare"),
    _Aspect("optimizer steps", Kind.BUDGET, _at("performance", "num_steps"),
            "one arm was trained longer"),
    _Aspect("training rows rejected", Kind.ROWS, _at("data", "num_rejected")),
    _Aspect("target tokens seen", Kind.BUDGET, _at("performance", "num_target_tokens_seen"),
            "one arm learned from more text"),
    _Aspect("target tokens of the test rows", Kind.EVALUATION,
            _at("audit", "mask", "test", "num_target_tokens"), _LOSSES),
    _Aspect("decoding", Kind.EVALUATION, _decoding, "answers were generated differently"),
    _Aspect("problems excluded from scores", Kind.EVALUATION, _excluded,
            "only problems that count in all arms are compared"),
    _Aspect("how generated code was run", Kind.EVALUATION, _at("environment", "sandbox_level")),
    _Aspect("names of the scores", Kind.EVALUATION,
            lambda run: sorted(n for n in run.metrics if n.startswith("test/")) or None,
            "only scores that all arms have are compared"),
    _Aspect("base weights", Kind.BASE, _at("model", "weights_fingerprint"),
            "the arms start from different models"),
    _Aspect("machine", Kind.MACHINE, _machine, "times and memory do not compare"),
    _Aspect("package versions", Kind.MACHINE, _packages),
    _Aspect("version of the source", Kind.MACHINE, _source),
)  # fmt: skip


def check_fairness(arms: Sequence[Arm]) -> Fairness:
    """Compare what arms were given: rows, budget, evaluation, base model, seeds, options, machine.

    Args:
        arms: Two at least, for there to be anything to compare.
    """
    result = Fairness()
    if len(arms) < 2:
        return result
    _compare_seeds(arms, result)
    for aspect in _ASPECTS:
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
    for aspect in _ASPECTS:
        if aspect.kind in (Kind.EVALUATION, Kind.BASE, Kind.MACHINE) or aspect.name == "test rows":
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


def _compare_aspect(aspect: _Aspect, arms: Sequence[Arm], result: Fairness) -> None:
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
    result.findings.append(
        Finding(
            aspect.name,
            aspect.kind,
            shown,
            odd,
            follows=by_budget,
            consequence="the common budget leaves it free" if by_budget else aspect.consequence,
        )
    )


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


def _by_seed(aspect: _Aspect, arm: Arm) -> dict[int, Any]:
    return {run.seed: aspect.of_run(run) for run in arm.runs}


def _distinct(runs: dict[int, Any]) -> list[str]:
    return sorted({json.dumps(value, sort_keys=True) for value in runs.values()})


def _odd(values: dict[str, str]) -> tuple[str, ...]:
    """Return the arms without the most common value; of equally common ones, the first counts."""
    usual = Counter(values.values()).most_common(1)[0][0]
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
        values = {name: str(config.get(key, "none")) for name, config in configs.items()}
        if len(set(values.values())) == 1 or not is_factor(key) or _root(key) == "logger":
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


def _root(key: str) -> str:
    return key.partition(".")[0]


def _flat(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, dict) and value:
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
