"""``run.json``: what a run was, kept current while it runs."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import math
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ift_lightning.errors import RankError, UserError
from ift_lightning.types import RunRecord, RunStatus

_PACKAGES = (
    "ift-lightning",
    "torch",
    "lightning",
    "transformers",
    "peft",
    "bitsandbytes",
    "datasets",
    "tokenizers",
    "hydra-core",
    "omegaconf",
    "numpy",
)


def now() -> str:
    """Return the present time, ISO 8601 in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


class RunRecorder:
    """Writes a run record, whole at every change: a killed run still says what it was.

    Args:
        folder: The run's folder.
        record: The record; change its fields, then call :meth:`write`.
        enabled: Only one rank writes.
    """

    def __init__(self, folder: Path, record: RunRecord, *, enabled: bool = True) -> None:
        self.path = folder / "run.json"
        self.record = record
        self.enabled = enabled

    def write(self) -> None:
        """Replace ``run.json`` with the record as it stands."""
        if not self.enabled:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_suffix(f".{os.getpid()}.part")
        text = json.dumps(_json_safe(self.record.to_json()), indent=2, ensure_ascii=False)
        temporary.write_text(text + "\n", encoding="utf-8")
        temporary.replace(self.path)

    @contextlib.contextmanager
    def running(self) -> Iterator[RunRecord]:
        """Keep the status: running inside the block, then completed, failed or interrupted."""
        self.record.status = RunStatus.RUNNING
        self.record.started_at = self.record.started_at or now()
        self.record.finished_at = None
        self.record.error = None
        self.write()
        try:
            yield self.record
        except BaseException as error:
            # Lightning ends an interrupted run with SystemExit.
            interrupted = isinstance(error, KeyboardInterrupt | SystemExit) or (
                type(error).__name__ == "SIGTERMException"
            )
            status = RunStatus.INTERRUPTED if interrupted else RunStatus.FAILED
            says_all = isinstance(error, UserError | RankError)
            message = str(error) if says_all else repr(error)
            self._finish(status, message)
            raise
        self._finish(RunStatus.COMPLETED, None)

    def _finish(self, status: RunStatus, error: str | None) -> None:
        self.record.status = status
        self.record.error = error
        self.record.finished_at = now()
        self.write()


def _json_safe(value: Any) -> Any:
    """Replace numbers that JSON does not have (NaN, infinities) by None."""
    if isinstance(value, dict):
        return {key: _json_safe(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_json_safe(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def read_run_record(folder: Path) -> dict[str, Any]:
    """Return the run record of a folder.

    Raises:
        UserError: There is none, or it cannot be read.
    """
    path = folder / "run.json"
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{folder} is no run folder: it has no run.json") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    return record


def mark_failed(folder: Path, error: str) -> None:
    """Say in a run's record that it failed, from outside of its processes."""
    path = folder / "run.json"
    if not path.is_file():
        return
    record = read_run_record(folder)
    record["status"], record["error"], record["finished_at"] = RunStatus.FAILED, error, now()
    temporary = path.with_suffix(f".{os.getpid()}.part")
    temporary.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", "utf-8")
    temporary.replace(path)


def describe_environment() -> dict[str, Any]:
    """Return Python, package versions, platform, hardware and the state of the source tree."""
    packages = {}
    for name in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            packages[name] = importlib.metadata.version(name)
    commit, dirty = _git_state()
    return {
        "python": platform.python_version(),
        "packages": packages,
        "platform": platform.platform(),
        "hardware": _hardware(),
        "git_commit": commit,
        "git_dirty": dirty,
        "sandbox_level": None,  # no generated code has been run
        "command": sys.argv,
    }


def _hardware() -> dict[str, Any]:
    import torch

    model = platform.processor()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    gpus = []
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            properties = torch.cuda.get_device_properties(index)
            gpus.append({"name": properties.name, "memory_bytes": properties.total_memory})
    return {
        "cpu": model,
        "cpu_cores": os.cpu_count(),
        "cpu_threads_used": torch.get_num_threads(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "gpus": gpus,
    }


def _git_state() -> tuple[str | None, bool | None]:
    """Return the commit that the package's source is at, and whether files differ from it."""
    folder = Path(__file__).resolve().parents[2]
    if not (folder / ".git").exists():
        return None, None

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        ).stdout.strip()

    try:
        return git("rev-parse", "HEAD"), bool(git("status", "--porcelain", "-uno"))
    except (OSError, subprocess.SubprocessError):
        return None, None
