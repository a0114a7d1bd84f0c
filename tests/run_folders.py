"""Writes run folders as training and evaluation leave them, with outcomes that a test chooses."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from ift_lightning.types import RunRecord, RunStatus


def write_run(
    folder: Path,
    *,
    overrides: Sequence[str] = (),
    seed: int = 0,
    metrics: Mapping[str, float | None] | None = None,
    answers: Sequence[Mapping[str, Any]] | None = None,
    before: Sequence[Mapping[str, Any]] | None = None,
    config: Mapping[str, Any] | None = None,
    status: RunStatus = RunStatus.COMPLETED,
    changes: Mapping[str, Any] | None = None,
    name: str = "tiny-lora-drills",
) -> Path:
    """Write a run folder.

    Args:
        folder: Where.
        overrides: Besides the seed.
        seed: Of the run.
        metrics: Of the record.
        answers: Lines of ``predictions.jsonl``; None for no file.
        before: Lines of ``predictions_before.jsonl``; None for no file.
        config: ``.hydra/config.yaml``; None for no file.
        status: Of the run.
        changes: Dotted path in the record to another value.
        name: Of the run.
    """
    record = RunRecord(
        name=name, seed=seed, overrides=[*overrides, f"seed={seed}"], config_fingerprint="c"
    ).to_json()
    record |= {
        "status": status.value,
        "model": {"name": "tiny", "num_parameters": 1000, "num_trainable_parameters": 100,
                  "weights_fingerprint": "sha256:0"},
        "data": {"name": "drills", "cot_level": "none", "template": "alpaca",
                 "ids_fingerprint": {"train": "a", "val": "b", "test": "c"}, "num_rejected": 0},
        "metrics": dict(metrics or {}),
        "audit": {"mask": {"test": {"num_target_tokens": 500}}},
        "performance": {"num_steps": 10, "num_target_tokens_seen": 2000, "train_seconds": 4.0,
                        "peak_memory_bytes": {"train": 1 << 30, "eval": 1 << 29}},
        "environment": {"packages": {"torch": "2.13.0"}, "hardware": {"cpu": "x", "cpu_cores": 2},
                        "git_commit": "0123456789abcdef", "git_dirty": False,
                        "sandbox_level": "namespaces"},
        "finished_at": "2026-01-01T00:00:00+00:00",
    }  # fmt: skip
    for path, value in (changes or {}).items():
        node = record
        *parents, last = path.split(".")
        for key in parents:
            node = node[key]
        node[last] = value
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps(record), encoding="utf-8")
    for file, lines in (("predictions.jsonl", answers), ("predictions_before.jsonl", before)):
        if lines is not None:
            text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
            (folder / file).write_text(text, encoding="utf-8")
    if config is not None:
        (folder / ".hydra").mkdir()
        (folder / ".hydra" / "config.yaml").write_text(yaml.safe_dump(dict(config)), "utf-8")
    return folder


def answer(problem: str, passes: bool, sample: int = 0, **scores: float) -> dict[str, Any]:
    """Return a line of predictions for a program that passes its tests, or fails them."""
    return {
        "id": problem,
        "sample": sample,
        "category": "list",
        "subtype": "filter",
        "prompt": f"Write a function for {problem}.",
        "completion": f"def f():\n    return {int(passes)}  # <b>|{problem}|</b>",
        "extracted": f"def f():\n    return {int(passes)}",
        "reference": "def f():\n    return 1",
        "verdict": "pass" if passes else "fail",
        "num_tokens": 12,
        "metrics": {"pass": float(passes), **scores},
    }


def judgement(problem: str, subtype: str, right: str, given: str | None) -> dict[str, Any]:
    """Return a line of predictions for a judgement."""
    return {
        "id": problem,
        "sample": 0,
        "subtype": subtype,
        "prompt": f"任务：{problem}",
        "completion": "不知道" if given is None else f"判断:{given}\n\n原因：略",
        "reference": f"判断:{right}\n\n原因：略",
        "verdict": None,
        "num_tokens": 9,
        "metrics": {"accuracy": float(given == right)},
    }


def passes(outcomes: Sequence[int], **scores: float) -> list[dict[str, Any]]:
    """Return a line for each outcome, 1 for a pass, of problems p0, p1, …"""
    return [answer(f"p{index}", bool(value), **scores) for index, value in enumerate(outcomes)]
