"""Whether the jobs of a sweep are still to be waited for, as SLURM's queue has it.

submitit asks ``sacct``, which fails where a cluster keeps no accounts: a job that ends without a
result would be waited for forever. ``squeue`` works everywhere.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Collection

from submitit.slurm.slurm import SlurmInfoWatcher, SlurmJob

DELAY_SECONDS = 30
GONE = "GONE"
"""State of a job that has left the queue: SLURM forgets jobs some minutes after their end."""

_ENDED = (
    "BOOT_FAIL",
    "CANCELLED",
    "COMPLETED",
    "DEADLINE",
    "FAILED",
    "NODE_FAIL",
    "OUT_OF_MEMORY",
    "REVOKED",
    "TIMEOUT",
    GONE,
)
_LOOKS = 2  # without a job before it is taken for gone


class QueueWatcher(SlurmInfoWatcher):
    """Asks ``squeue`` for the states of jobs, all at once."""

    def __init__(self, delay_s: int = DELAY_SECONDS) -> None:
        super().__init__(delay_s=delay_s)
        self._missed: dict[str, int] = {}

    def update(self) -> None:
        """Look into the queue; where that fails, everything stays as it was."""
        waited_for = self._registered - self._finished
        if not waited_for:
            return
        self._num_calls += 1
        self._last_status_check = time.time()
        shown = _queue()
        if shown is not None:
            self.note(shown, waited_for)

    def note(self, shown: str, waited_for: Collection[str]) -> None:
        """Take over what ``squeue`` has shown.

        Args:
            shown: Lines of ``job|state``, a task of an array as ``array_task``.
            waited_for: Names of jobs.
        """
        states = read_queue(shown)
        for job in waited_for:
            state = states.get(job)
            self._missed[job] = 0 if state else self._missed.get(job, 0) + 1
            if state is None and self._missed[job] >= _LOOKS:
                state = GONE
            if state is not None:
                self._info_dict[job] = {"JobID": job, "State": state}
            if state in _ENDED:
                self._finished.add(job)

    def is_done(self, job_id: str, mode: str = "standard") -> bool:
        """Whether a job has ended, and is not about to be started again."""
        return self.get_state(job_id, mode=mode) in _ENDED

    def wait_for_all(self, poll_seconds: float = 2.0) -> None:
        """Wait until every job has ended; a failed one does not cut the wait for others short."""
        while any(not self.is_done(job) for job in sorted(self._registered)):
            time.sleep(poll_seconds)


def read_queue(shown: str) -> dict[str, str]:
    """Return the states by job of what ``squeue`` has shown."""
    pairs = (line.strip().partition("|") for line in shown.splitlines())
    return {job: state.split()[0].rstrip("+") for job, bar, state in pairs if bar and state.strip()}


def _queue() -> str | None:
    """Return all jobs of this user, those that have just ended, too; None where that fails."""
    command = ["squeue", "--noheader", "--array", "--states=all", "--format=%i|%T"]
    try:
        return subprocess.run(
            [*command, f"--user={os.getuid()}"],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None


def watch_the_queue() -> QueueWatcher:
    """Have submitit ask the queue from now on."""
    watcher = QueueWatcher()
    SlurmJob.watcher = watcher
    return watcher
