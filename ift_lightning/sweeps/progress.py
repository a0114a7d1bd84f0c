"""Where the points of a sweep stand, read from their records while they run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_SCORES = ("test/pass@1", "test/accuracy", "test/bleu", "test/loss")
"""Scores shown for a finished point: the first that it has."""

ERROR_FILE = "sweep_error.json"
"""Says why a point failed whose record is that of an earlier attempt, and is kept."""


@dataclass(frozen=True)
class Progress:
    """Where a point stands.

    Args:
        name: Its folder's name.
        status: waiting, preparing, training, scoring, completed, reused, failed, interrupted.
        step: Optimizer steps done.
        num_steps: Of how many; 0 where that is not known yet.
        loss: Of the last steps; None before the first.
        seconds_left: Of training; None where it is not known.
        score: A finished point's, with its name.
        error: Why it failed, in one line.
    """

    name: str
    status: str = "waiting"
    step: int = 0
    num_steps: int = 0
    loss: float | None = None
    seconds_left: float | None = None
    score: tuple[str, float] | None = None
    error: str | None = None


def read_progress(folder: Path, *, since: float = 0.0) -> Progress:
    """Return where the point stands whose folder this is.

    Args:
        folder: The point's folder.
        since: Time of day (``time.time()``) of the sweep's start: a record that has not been
            touched since belongs to an earlier attempt, and is only believed where it is finished.
    """
    failure = _failure(folder, since)
    if failure is not None:
        return Progress(folder.name, status="failed", error=failure)
    path = folder / "run.json"
    try:
        is_old = path.stat().st_mtime < since
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return Progress(folder.name)
    status = str(record.get("status"))
    if is_old and status != "completed":
        return Progress(folder.name)
    return _of_record(folder.name, record)


def _failure(folder: Path, since: float) -> str | None:
    """Return the first line of what stopped the present attempt before it could train."""
    path, record = folder / ERROR_FILE, folder / "run.json"
    try:
        written = path.stat().st_mtime
        if written < since or (record.exists() and written < record.stat().st_mtime):
            return None
        error = str(json.loads(path.read_text(encoding="utf-8"))["error"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return next(iter(error.splitlines()), error)


def _of_record(name: str, record: dict[str, Any]) -> Progress:
    performance, metrics = record.get("performance") or {}, record.get("metrics") or {}
    budget = (record.get("data") or {}).get("budget") or {}
    step, num_steps = int(performance.get("num_steps") or 0), int(budget.get("num_steps") or 0)
    seconds = float(performance.get("train_seconds") or 0.0)
    status = str(record.get("status"))
    left = None
    if status == "running":
        status = "training" if step else "preparing"
        if num_steps and step >= num_steps:
            status = "scoring"
        elif step and num_steps:
            left = seconds / step * (num_steps - step)
        elif step and budget.get("max_seconds"):
            left = max(float(budget["max_seconds"]) - seconds, 0.0)
    if status == "completed" and record.get("reused_from"):
        status = "reused"
    score = next(((key, metrics[key]) for key in _SCORES if metrics.get(key) is not None), None)
    return Progress(
        name=name,
        status=status,
        step=step,
        num_steps=num_steps,
        loss=metrics.get("train/loss"),
        seconds_left=left,
        score=score if status in ("completed", "reused") else None,
        error=_in_one_line(str(record["error"])) if record.get("error") else None,
    )


def _in_one_line(error: str) -> str:
    """Return what an error is: its first line, and the last one of a traceback below it."""
    lines = error.strip().splitlines() or [""]
    has_traceback = any(line.startswith("Traceback ") for line in lines[1:])
    return f"{lines[0]} {lines[-1]}" if has_traceback else lines[0]


def seconds_left(points: Sequence[Progress], elapsed: float) -> float | None:
    """Estimate how long a sweep will still take, from the work done since it began.

    Work is counted in points; a running one counts by its share of steps.

    Args:
        points: All points, those apart that were finished before the sweep began.
        elapsed: Seconds since then.
    """
    done = 0.0
    for point in points:
        if point.status in ("completed", "failed", "scoring"):
            done += 1.0
        elif point.num_steps:
            done += point.step / point.num_steps
    if not done or elapsed <= 0:
        return None
    return elapsed / done * max(len(points) - done, 0.0)


def clock(seconds: float | None) -> str:
    """Return a duration as ``1:02:03`` or ``2:03``; empty where it is not known."""
    if seconds is None:
        return ""
    minutes, rest = divmod(round(max(seconds, 0.0)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
