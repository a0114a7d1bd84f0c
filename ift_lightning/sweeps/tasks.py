"""What the tasks of one cluster job decide together, where several of them are one run.

Each task is started with the same point of a sweep. Whether it still has to be trained is found
out by the first one, which may move or copy folders for that; the others do what it has decided.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from ift_lightning.training.ranks import ranks_of_environment

_POLL_SECONDS = 0.2
_FAILED = "failed"


def is_first_task(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether this process is the one that writes, among those that a launcher has started."""
    ranks = ranks_of_environment(environ)
    return ranks is None or ranks.is_main


def decided_by_first_task(
    folder: Path, decide: Callable[[], str], environ: Mapping[str, str] = os.environ
) -> str | None:
    """Return what the first task decides; the others wait for as long as it takes.

    Args:
        folder: Which all tasks see.
        decide: Called in the first task alone.
        environ: Says which task this is, and of which job.

    Returns:
        The decision; None in other tasks where the first one failed to make one.
    """
    ranks = ranks_of_environment(environ)
    if ranks is None or ranks.world_size == 1:
        return decide()
    # A job that is put back into the queue decides anew.
    names = ("SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_RESTART_COUNT")
    path = folder / "ranks" / f"decision-{'-'.join(environ.get(name, '0') for name in names)}"
    if not ranks.is_main:
        while not path.is_file():
            time.sleep(_POLL_SECONDS)
        decision = path.read_text(encoding="utf-8")
        return None if decision == _FAILED else decision
    decision = _FAILED
    try:
        decision = decide()
    finally:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".part")
        temporary.write_text(decision, encoding="utf-8")
        temporary.replace(path)
    return decision


def leave_if_others_wait(environ: Mapping[str, str] = os.environ) -> None:
    """End this process as failed where it is one of several tasks: that ends the others, too.

    Hydra would go on to an orderly end, and the others would wait for this one until a timeout.
    """
    ranks = ranks_of_environment(environ)
    if ranks is None or ranks.world_size == 1:
        return
    sys.stdout.flush()
    sys.stderr.flush()
    # At once: the end of the interpreter waits for connections that nobody answers any more.
    os._exit(1)
