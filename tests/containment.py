"""What the sandbox tests share: small limits, and a look at what is left behind."""

from __future__ import annotations

import os
import time
from pathlib import Path

from ift_lightning.evaluation.sandbox import Outcome, Program, Sandbox, SandboxLimits

LIMITS = SandboxLimits(
    seconds_per_program=2.0,
    memory_bytes=128 << 20,
    max_output_bytes=1 << 20,
    max_processes=8,
    disk_bytes=1 << 20,
)
FOUR = [{"args": [2], "expected": 4}]
SOUND = "def f(x): return x * 2"


def run_one(sandbox: Sandbox, code: str, tests: object = FOUR, entry_point: str = "f") -> Outcome:
    (outcome,) = sandbox.run([Program("program", code, entry_point, tests)])  # type: ignore[arg-type]
    return outcome


def descendants(ancestor: int) -> set[int]:
    """Return the processes below a process."""
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[0] != "Z":
            parents[int(folder.name)] = int(fields[1])
    found: set[int] = set()
    frontier = {ancestor}
    while frontier := {pid for pid, parent in parents.items() if parent in frontier}:
        found |= frontier
    return found


def wait_until_gone(pids: set[int], seconds: float = 20.0) -> set[int]:
    """Return those of ``pids`` that are still there when the time is up."""
    deadline = time.monotonic() + seconds
    while (left := {pid for pid in pids if _is_alive(pid)}) and time.monotonic() < deadline:
        time.sleep(0.02)
    return left


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def processes_with(mark: str) -> list[str]:
    """Return the processes that are ours by their environment or arguments."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        if int(folder.name) == os.getpid():
            continue
        try:
            text = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if mark.encode() in text:
            found.append(f"{folder.name}: {text[:80]!r}")
    return found
