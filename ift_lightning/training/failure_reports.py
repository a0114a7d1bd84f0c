"""What a failed process says of itself, so that the cause is named and not what followed from it.

When one of several processes fails, the others fail, too: their connections break. Each leaves a
report in a folder, and whoever speaks for the run picks the one that explains the rest.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NoReturn

from ift_lightning.errors import RankError, UserError
from ift_lightning.training.ranks import Ranks

# What a rank says whose only trouble is that another one has gone.
_ECHOES = (
    "gloo",
    "nccl",
    "closed by peer",
    "connection reset",
    "tcpstore",
    "distbackenderror",
    "distnetworkerror",
)


def is_echo(message: str) -> bool:
    """Whether an error, by its last line, only says that another rank has gone."""
    last = message.strip().splitlines()[-1:] or [""]
    return any(word in last[0].lower() for word in _ECHOES)


@dataclass(frozen=True)
class FailureReport:
    """How a rank ended.

    Args:
        rank: Which.
        kind: "user" for what a user can mend, "stopped" for a signal, "error" for all else.
        message: The message, the signal's number, or the traceback.
        time: When, in seconds since the epoch.
    """

    rank: int
    kind: str
    message: str
    time: float

    @property
    def is_echo(self) -> bool:
        """Whether this only says that another rank has gone."""
        return self.kind == "error" and is_echo(self.message)

    def exception(self) -> Exception:
        """Return the exception that stands for it in another process."""
        if self.kind == "user":
            return UserError(self.message)
        return RankError(f"rank {self.rank} failed:\n{self.message}")


def report_of(rank: int, error: BaseException) -> FailureReport:
    """Return the report of an exception that is being handled."""
    is_user_error = isinstance(error, UserError)
    text = str(error) if is_user_error else traceback.format_exc().strip()
    return FailureReport(rank, "user" if is_user_error else "error", text, time.time())


def write_report(folder: Path, report: FailureReport) -> None:
    """Put a report into a folder, in one move."""
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".error-{report.rank}.part"
    temporary.write_text(json.dumps(asdict(report)), encoding="utf-8")
    temporary.replace(folder / f"error-{report.rank}.json")


def read_reports(folder: Path) -> list[FailureReport]:
    """Return the reports of a folder, the earliest first."""
    reports = [
        FailureReport(**json.loads(path.read_text(encoding="utf-8")))
        for path in folder.glob("error-*.json")
    ]
    return sorted(reports, key=lambda report: report.time)


def remove_reports(folder: Path) -> None:
    """Remove the reports of an earlier try."""
    for path in folder.glob("error-*.json"):
        path.unlink(missing_ok=True)


def first_cause(reports: Sequence[FailureReport]) -> FailureReport | None:
    """Return the earliest report that is neither an echo nor a stop; None where there is none."""
    return next((item for item in reports if not item.is_echo and item.kind != "stopped"), None)


def wait_for_cause(folder: Path, seconds: float) -> FailureReport | None:
    """Return the cause once a rank has reported it; None where none does in time."""
    deadline = time.monotonic() + seconds
    while True:
        cause = first_cause(read_reports(folder))
        if cause is not None or time.monotonic() > deadline:
            return cause
        time.sleep(0.1)


def raise_common_cause(folder: Path, ranks: Ranks, error: Exception) -> NoReturn:
    """Fail as one of several processes that somebody else has started.

    Rank 0 raises what failed first, wherever that was. The others leave at once, with a status
    that has ``srun`` and ``torchrun`` end the rest.

    Args:
        folder: Which all ranks can read and write.
        ranks: This process.
        error: The exception that is being handled.
    """
    report = report_of(ranks.rank, error)
    write_report(folder, report)
    if ranks.is_main:
        cause = wait_for_cause(folder, 10.0) if report.is_echo else report
        if cause is None or cause is report:
            raise error
        raise cause.exception() from error
    print(f"rank {ranks.rank}: {report.message}", file=sys.stderr, flush=True)
    os._exit(1)
