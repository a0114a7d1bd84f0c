"""Signals that ask a run to stop: it saves at the end of the step, and goes on when started again.

SIGTERM comes from ``kill``, from an interrupted launcher, and from SLURM when a job is cancelled
or preempted. SIGUSR1 and SIGUSR2 come from SLURM some time before a limit is reached
(``--signal``); the job is then put back into the queue.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from types import FrameType, TracebackType
from typing import Any

import torch
import torch.distributed as dist

from ift_lightning.errors import StoppedBySignal

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
REQUEUE = (signal.SIGUSR1, signal.SIGUSR2)


class StopRequests:
    """Notes signals in training, which stops at the end of a step; elsewhere, stops at once.

    Lightning's own handlers save in the middle of a step, where a run cannot be resumed exactly,
    and those of submitit know nothing of checkpoints. Use it as a context around a whole run.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self.is_training = False
        self._is_leaving = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopRequests:
        self.install()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if threading.current_thread() is threading.main_thread():
            for number, handler in self._before.items():
                signal.signal(number, handler)
        self._before = {}

    def install(self) -> None:
        """Take over the signals; again where a library has done so meanwhile."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in SIGNALS:
            handler = signal.signal(number, self._note)
            if handler != self._note:
                self._before.setdefault(number, handler)

    def _note(self, number: int, _: FrameType | None) -> None:
        if self._is_leaving:
            return  # SLURM ends the tasks of a job that is put back into the queue
        self.received = number
        if not self.is_training:
            raise StoppedBySignal(number)

    def leave(self) -> None:
        """Ignore further signals: what they ask for is being done."""
        self._is_leaving = True

    def agreed(self) -> int | None:
        """Return the signal that any rank has received; all ranks take part."""
        number = torch.tensor([self.received or 0])
        if dist.is_initialized() and dist.get_world_size() > 1:
            dist.all_reduce(number, op=dist.ReduceOp.MAX)
        return int(number) or None


def requeue(number: int, environ: Mapping[str, str]) -> bool:
    """Put this SLURM job back into the queue, where the signal means that.

    Args:
        number: The signal.
        environ: SLURM's variables.

    Returns:
        Whether it was put back.
    """
    job = environ.get("SLURM_JOB_ID")
    if number not in REQUEUE or job is None:
        return False
    if "SLURM_ARRAY_JOB_ID" in environ:
        job = f"{environ['SLURM_ARRAY_JOB_ID']}_{environ['SLURM_ARRAY_TASK_ID']}"
    # Said before it is done: SLURM ends this process for it.
    print(f"stopped; job {job} goes back into the queue", file=sys.stderr, flush=True)
    result = subprocess.run(["scontrol", "requeue", job], check=False, timeout=60)
    if result.returncode:
        print(f"job {job} could not be put back into the queue", file=sys.stderr, flush=True)
    return result.returncode == 0


def was_requeued() -> bool:
    """Whether SLURM runs this job again."""
    return int(os.environ.get("SLURM_RESTART_COUNT", 0)) > 0
