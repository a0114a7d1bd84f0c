"""What arms are to have in common: rows, budget, evaluation, base model, machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from ift_lightning.reporting.arms import plain_text
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


@dataclass(frozen=True, slots=True)
class Aspect:
    """Something that arms are to have in common.

    Args:
        name: What it is, in words.
        kind: What a difference puts in doubt.
        of_run: Its value in a run; None where the run does not say.
        consequence: What a difference means; may be empty.
        decided_by: Factors that decide it by design: where they explain a difference, it belongs
            to what is compared.
        same_in_arm: Whether runs of one arm have to agree on it, too.
    """

    name: str
    kind: Kind
    of_run: Callable[[Run], Any]
    consequence: str = ""
    decided_by: tuple[str, ...] = ()
    same_in_arm: bool = False


def at(*path: str) -> Callable[[Run], Any]:
    def look(run: Run) -> Any:
        node: Any = run.record
        for key in path:
            node = node.get(key) if isinstance(node, dict) else None
        return node

    return look


def _decoding_part(part: str) -> Callable[[Run], Any]:
    """Return what looks up the room for an answer, where answers stop, or how tokens are chosen."""

    def look(run: Run) -> Any:
        found = at("audit", "evaluation", "decoding")(run) or at("data", "decoding")(run)
        if isinstance(found, dict):  # foreseen, in the words of the options
            own = {"room": ("max_new_tokens",), "stop": ("stop", "end_token_ids")}
            if part in own:
                values = {key: found[key] for key in own[part] if key in found}
                return next(iter(values.values())) if len(values) == 1 else values or None
            known = sum(own.values(), ())
            return {key: value for key, value in found.items() if key not in known} or None
        if not isinstance(found, list) or len(found) < 4:
            return found or None
        parts = {
            "room": found[0],
            "stop": f"{found[-2]}, tokens {found[-1]}",
            "choice": " ".join(map(str, found[1:-2])),
        }
        return parts[part]

    return look


def _loss_weights(run: Run) -> Any:
    loss = run.config.get("loss")
    if not isinstance(loss, dict):
        return None
    roles = ", ".join(f"{k} {plain_text(v)}" for k, v in (loss.get("role_weights") or {}).items())
    rules = [
        f"{plain_text(rule.get('weight'))} for {rule.get('literal') or rule.get('regex')}"
        for rule in loss.get("key_tokens") or []
        if isinstance(rule, dict)
    ]
    return "; ".join([roles, *rules])


def _excluded(run: Run) -> Any:
    found = at("audit", "evaluation", "excluded")(run)
    return None if found is None else sorted(found)


def _packages(run: Run) -> Any:
    found = at("environment", "packages")(run)
    return None if not found else ", ".join(f"{name} {found[name]}" for name in sorted(found))


def _machine(run: Run) -> Any:
    hardware = at("environment", "hardware")(run)
    if not isinstance(hardware, dict):
        return None
    gpus = [gpu.get("name") for gpu in hardware.get("gpus") or []]
    return ", ".join([f"{hardware.get('cpu')} ({hardware.get('cpu_cores')} cores)", *gpus])


def _source(run: Run) -> Any:
    commit = at("environment", "git_commit")(run)
    if commit is None:
        return None
    return f"{commit[:12]}{' with local changes' if run.record['environment'].get('git_dirty') else ''}"  # noqa: E501


_TARGETS = ("data_variant", "cot_level", "template")
"""Factors that change what is to be answered, and with it how many tokens there are to learn."""

_LOSSES = "losses and perplexities do not compare, since they are means over other tokens"

ASPECTS = (
    Aspect("training rows", Kind.ROWS, at("data", "ids_fingerprint", "train"),
           "the arms learned from different rows"),
    Aspect("validation rows", Kind.ROWS, at("data", "ids_fingerprint", "val"),
           "best checkpoints were chosen on different rows"),
    Aspect("test rows", Kind.ROWS, at("data", "ids_fingerprint", "test"),
           "problems are compared only where all arms have them; losses do not compare"),
    Aspect("optimizer steps", Kind.BUDGET, at("performance", "num_steps"),
           "one arm was trained longer"),
    Aspect("training rows rejected", Kind.ROWS, at("data", "num_rejected")),
    Aspect("target tokens seen", Kind.BUDGET, at("performance", "num_target_tokens_seen"),
           "one arm learned from more text", decided_by=_TARGETS),
    Aspect("target tokens of the test rows", Kind.EVALUATION,
           at("audit", "mask", "test", "num_target_tokens"), _LOSSES, decided_by=_TARGETS),
    Aspect("loss weights of the target tokens", Kind.EVALUATION, _loss_weights,
           "weighted losses do not compare, since their tokens count differently",
           decided_by=("loss",), same_in_arm=True),
    Aspect("room for an answer, in tokens", Kind.EVALUATION, _decoding_part("room"),
           "longer answers are cut off in one arm alone", decided_by=("cot_level", "template"),
           same_in_arm=True),
    Aspect("where answers stop", Kind.EVALUATION, _decoding_part("stop"),
           "answers end differently", decided_by=("template",), same_in_arm=True),
    Aspect("decoding", Kind.EVALUATION, _decoding_part("choice"),
           "answers were generated differently", same_in_arm=True),
    Aspect("problems excluded from scores", Kind.EVALUATION, _excluded,
           "only problems that count in all arms are compared"),
    Aspect("how generated code was run", Kind.EVALUATION, at("environment", "sandbox_level"),
           same_in_arm=True),
    Aspect("names of the scores", Kind.EVALUATION,
           lambda run: sorted(n for n in run.metrics if n.startswith("test/")) or None,
           "only scores that all arms have are compared"),
    Aspect("base weights", Kind.BASE, at("model", "weights_fingerprint"),
           "the arms start from different models", same_in_arm=True),
    Aspect("machine", Kind.MACHINE, _machine, "times and memory do not compare"),
    Aspect("package versions", Kind.MACHINE, _packages),
    Aspect("version of the source", Kind.MACHINE, _source,
           "the program itself may have changed", same_in_arm=True),
)  # fmt: skip
