"""Runs one point of a sweep: only where it has to, and without taking the others down with it."""

from __future__ import annotations

import contextlib
import functools
import json
import math
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from ift_lightning.config.schema import TrainConfig
from ift_lightning.errors import RankError, UserError
from ift_lightning.sweeps.progress import ERROR_FILE
from ift_lightning.sweeps.tasks import (
    decided_by_first_task,
    is_first_task,
    leave_if_others_wait,
)

if TYPE_CHECKING:
    from ift_lightning.sweeps.resuming import Standing

OUTPUT_FILE = "output.log"

TrainFunction = Callable[[TrainConfig], float | None]


def run_point(config: TrainConfig, train: TrainFunction) -> float | None:
    """Run ``train(config)``; as a point of a sweep, decide first what of it is left to do.

    Args:
        config: The point's config.
        train: Trains, and returns the objective.

    Returns:
        The objective; of a finished point, the one it had. None where the point failed or its
        objective is no number: a search counts that as a failed trial, and NaN would end it.
    """
    if not HydraConfig.initialized() or HydraConfig.get().mode is not RunMode.MULTIRUN:
        return train(config)
    if "joblib" in str(HydraConfig.get().launcher.get("_target_", "")):
        _end_with_the_parent()
    folder = Path(config.run_dir)
    if is_first_task():
        with contextlib.suppress(OSError):
            (folder / ERROR_FILE).unlink()  # of an earlier attempt
    with contextlib.ExitStack() as stack:
        if config.sweep.table and is_first_task():
            stack.enter_context(_output_into(folder / OUTPUT_FILE))
            config.trainer.progress_bar = False
        try:
            objective = _train_what_is_left(config, folder, train)
            return objective if objective is not None and math.isfinite(objective) else None
        except Exception as error:
            # Whatever it is, it concerns this point, and the others are still to be run.
            if not is_first_task():
                raise
            record_failure(config, folder, error)
            print(f"error: {error}", file=sys.stderr)
            if not isinstance(error, UserError | RankError):
                traceback.print_exc()
            leave_if_others_wait()
            return None


def _train_what_is_left(config: TrainConfig, folder: Path, train: TrainFunction) -> float | None:
    from ift_lightning.modeling.shared_weights import sharing_base_weights
    from ift_lightning.sweeps.resuming import Standing
    from ift_lightning.training.run_record import read_run_record

    decision = decided_by_first_task(folder, lambda: _standing(config, folder).value)
    if decision is None:
        return None  # the first task says why
    standing = Standing(decision)
    if standing is Standing.FINISHED:
        objective = read_run_record(folder)["metrics"].get("val/loss")
        return None if objective is None else float(objective)
    config.resume = standing is Standing.INTERRUPTED
    with sharing_base_weights():  # with the points that this process runs before and after
        return train(config)


def _standing(config: TrainConfig, folder: Path) -> Standing:
    """Return what is to be done with a point, its folder made ready for it."""
    from ift_lightning.sweeps.resuming import Standing, set_aside, stand_in, standing_of

    is_requeued = int(os.environ.get("SLURM_RESTART_COUNT", 0)) > 0
    resumes = config.sweep.resume or is_requeued
    standing = standing_of(folder, config) if resumes else Standing.NEW
    if standing is Standing.NEW:
        aside = set_aside(folder)
        if aside is not None:
            print(f"an earlier run with other settings is now in {aside}")
        overrides = list(HydraConfig.get().overrides.task)
        source = stand_in(folder, config, config.sweep.reuse, overrides)
        if source is not None:
            print(f"the same run is finished in {source}, and stands in")
            standing = Standing.FINISHED
    return standing


@functools.cache
def _end_with_the_parent() -> None:
    """End this process soon after the one that started it; joblib's workers would train on."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, name="parent watch", daemon=True).start()


def record_failure(config: TrainConfig, folder: Path, error: Exception) -> None:
    """Leave word of a failure, and of an earlier attempt all that is on record.

    A failure before training began, in deciding what is left of a point, must not cost the point
    its finished run or its checkpoints: it then stands in a file of its own.
    """
    from ift_lightning.training.run_record import RunRecorder, now, read_run_record
    from ift_lightning.types import RunRecord

    text = str(error) if isinstance(error, UserError | RankError) else repr(error)
    path = folder / ERROR_FILE
    if (folder / "run.json").exists():
        try:
            said = read_run_record(folder).get("error")
        except UserError:
            said = None  # it may be readable again: on another node, say
        if said != text:
            content = {"error": text, "failed_at": now()}
            temporary = path.with_suffix(f".{os.getpid()}.part")
            temporary.write_text(json.dumps(content, ensure_ascii=False) + "\n", encoding="utf-8")
            temporary.replace(path)
        return
    record = RunRecord(
        name=config.name,
        seed=config.seed,
        overrides=list(HydraConfig.get().overrides.task),
        config_fingerprint="",
    )
    with contextlib.suppress(Exception), RunRecorder(folder, record).running():
        raise error


@contextlib.contextmanager
def _output_into(path: Path) -> Iterator[None]:
    """Append everything that this process and its children print to a file, for the block."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8", buffering=1) as file:
        saved = [(number, os.dup(number)) for number in (1, 2)]
        sys.stdout.flush()
        sys.stderr.flush()
        try:
            for number, _ in saved:
                os.dup2(file.fileno(), number)
            # sys.stdout may be somebody else's object, which does not write to descriptor 1.
            with contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
                yield
        finally:
            for number, copy in saved:
                os.dup2(copy, number)
                os.close(copy)
