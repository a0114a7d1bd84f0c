"""Says which point of a sweep an error belongs to, on this machine and on a cluster."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from ift_lightning.errors import RankError, UserError


def _point() -> str | None:
    """Return the name of the point that is being run; None outside of sweeps."""
    if not HydraConfig.initialized():
        return None
    hydra = HydraConfig.get()
    if hydra.mode is not RunMode.MULTIRUN:
        return None
    overrides = " ".join(hydra.overrides.task) or "the defaults"
    return f"in point {hydra.job.num} of the sweep: {overrides} ({hydra.runtime.output_dir})"


@contextmanager
def naming_the_point() -> Iterator[None]:
    """Add the point of a sweep to what is raised in the block."""
    try:
        yield
    except (UserError, RankError) as error:
        point = _point()
        if point is None:
            raise
        kind = RankError if isinstance(error, RankError) else UserError
        raise kind(f"{error}\n{point}") from error
    except Exception as error:
        point = _point()
        if point is not None:
            error.add_note(point)
        raise


def explain_lost_job(error: BaseException) -> str | None:
    """Return which point a cluster's job was that ended without a word; None for other errors.

    submitit names jobs by number. It submits a sweep as an array, whose tasks are the points.
    """
    if type(error).__name__ not in ("UncompletedJobError", "FailedJobError"):
        return None
    text = str(error)
    job = re.search(r"\b(\d+)_(\d+)\b", text)
    single = re.search(r"^Job (\d+) ", text)
    folder = re.search(r"(/\S+)/\.submitit/", text)
    state = re.search(r"state: ?(\w+)", text)
    what = f"ended as {state.group(1)}" if state else "ended without a result"
    if folder is not None and job is None and single is not None:
        return _explain(Path(folder.group(1)), single.group(1), 0, what) or f"a job {what}: {text}"
    if job is None or folder is None:
        return f"a job of the sweep {what}: {text}"
    explained = _explain(Path(folder.group(1)), job.group(0), int(job.group(2)), what)
    assert explained is not None
    return explained


def _explain(sweep: Path, job: str, point: int, what: str) -> str | None:
    """Name a job's point; None where a job without an array could be any of several points."""
    if "_" not in job and len(_points(sweep)) != 1:
        return None
    run = _folder_of(sweep, point)
    return (
        f"point {point} of the sweep, job {job}, {what}{_name_of(run)}: {run}. Its "
        f"output is in {sweep}/.submitit/{job}"
    )


def _points(sweep: Path) -> list[dict[str, object]]:
    try:
        return list(json.loads((sweep / "sweep.json").read_text(encoding="utf-8"))["points"])
    except (OSError, ValueError, LookupError, TypeError):
        return []


def _folder_of(sweep: Path, point: int) -> Path:
    """Return the folder of a sweep's point, by its number."""
    try:
        return sweep / str(_points(sweep)[point]["folder"])
    except LookupError:
        return sweep / str(point)


def _name_of(run: Path) -> str:
    """Return the name of a run and what it was asked for, where it has begun."""
    try:
        record = json.loads((run / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ""
    reason = f"; {record['error']}" if record.get("error") else ""
    return f" ({record['name']}: {' '.join(record['overrides']) or 'the defaults'}{reason})"
