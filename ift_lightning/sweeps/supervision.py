"""Begins and ends a sweep around Hydra's own: points checked before, a report after."""

from __future__ import annotations

import contextlib
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from ift_lightning.config.checks import check_config
from ift_lightning.config.hub_access import go_offline_without_hub
from ift_lightning.config.sweep_errors import explain_lost_job
from ift_lightning.config.sweep_schema import SweepConfig
from ift_lightning.errors import UserError
from ift_lightning.sweeps.points import Point, compose_points, write_sweep_file
from ift_lightning.training.failure_reports import first_cause, is_echo, read_reports
from ift_lightning.training.run_record import mark_failed, read_run_record
from ift_lightning.types import RunStatus

if TYPE_CHECKING:
    from ift_lightning.sweeps.job_states import QueueWatcher

REPORT_FOLDER = "report"
RANKS = "ranks"  # folder of a run's folder: what its processes said of themselves


class Sweep:
    """A sweep from its first check to its report.

    Args:
        folder: Its folder.
        settings: ``sweep.*``.
        points: Its points; None where the sweeper decides on them as it goes.
        title: Of the report; None for the report's own.
    """

    def __init__(
        self,
        folder: Path,
        settings: SweepConfig,
        points: Sequence[Point] | None,
        title: str | None,
    ) -> None:
        self.folder = folder
        self.settings = settings
        self.points = points
        self.title = title
        self._table: Any = None
        self._jobs: QueueWatcher | None = None

    def begin(self) -> None:
        """Check all points, and show where they stand from now on.

        Raises:
            UserError: A point cannot work, with its name; nothing has been trained then.
        """
        for point in self.points or ():
            try:
                check_config(point.config)
            except UserError as error:
                raise UserError(f"{error}\nin the point {point.name} of the sweep") from error
        for source in self.settings.reuse:
            if not Path(source).expanduser().is_dir():
                raise UserError(
                    f"sweep.reuse={source}: there is no such folder. Give folders with finished "
                    "runs below them, or leave it out"
                )
        go_offline_without_hub()
        if self.points is not None:
            from ift_lightning.sweeps.fairness import check_points

            check_points(self.points, self.settings.unfair)
        write_sweep_file(self.folder, command(), self.points)
        print(f"sweep: {self.folder}{f', {len(self.points)} points' if self.points else ''}")
        if self.settings.table and self.points:
            from ift_lightning.sweeps.table import LiveTable

            self._table = LiveTable(
                [point.folder for point in self.points], line_seconds=self.settings.table_seconds
            )

    def end(self) -> None:
        """Write the report, and name what failed.

        Raises:
            UserError: Points failed; or the report cannot be made.
        """
        from ift_lightning.sweeps.progress import read_progress

        self.close()
        if self._jobs is not None:
            self._jobs.wait_for_all()
        folders = [point.folder for point in self.points or ()] or sorted(
            path.parent for path in self.folder.glob("*/run.json")
        )
        for folder in folders:
            _take_over_cause(folder)
        ended = [read_progress(folder) for folder in folders]
        lost = [point for point in ended if point.status not in ("completed", "reused")]
        if self.settings.report and len(lost) < len(ended):
            self._report()
        if lost:
            names = "\n".join(
                f"  {point.name}: {point.error or f'it did not finish ({point.status})'}"
                for point in lost
            )
            raise UserError(
                f"{len(lost)} of {len(ended)} points did not finish:\n{names}\nWhat they printed "
                f"is in output.log in their folders. The others are kept; go on with\n"
                f"  {continuing_command(self.folder)}"
            )

    def submitted(self) -> None:
        """Have the sweep wait for jobs of SLURM, also for those that leave no result."""
        from ift_lightning.sweeps.job_states import watch_the_queue

        self._jobs = watch_the_queue()

    def _report(self) -> None:
        from ift_lightning.comparing import report
        from ift_lightning.config.report_schema import ReportConfig

        output = str(self.folder / REPORT_FOLDER)
        report(
            ReportConfig(sweep=str(self.folder), title=self.title, output=output, run_dir=output)
        )

    def interrupted(self) -> None:
        """Say how to go on."""
        self.close()
        print(
            f"the sweep has stopped; finished points are kept. Go on with\n"
            f"  {continuing_command(self.folder)}",
            file=sys.stderr,
        )

    def close(self) -> None:
        """Stop the table, and let go of the weights that points had in common."""
        if "torch" in sys.modules:
            from ift_lightning.modeling.shared_weights import forget_base_weights

            forget_base_weights()
        if self._table is not None:
            self._table.close()
            self._table = None


def _take_over_cause(folder: Path) -> None:
    """Record why a run failed whose first process was ended before it could."""
    with contextlib.suppress(UserError):
        record = read_run_record(folder)
        cause = first_cause(read_reports(folder / RANKS))
        status, error = record.get("status"), str(record.get("error") or "")
        is_unknown = status == RunStatus.RUNNING or (status == RunStatus.FAILED and is_echo(error))
        if is_unknown and cause is not None:
            mark_failed(folder, str(cause.exception()))


_current: list[Sweep] = []


class _SweepRefusedError(BaseException):
    """Carries an error past Hydra, which only lets through what is no ``Exception``."""

    def __init__(self, reason: Exception) -> None:
        super().__init__(str(reason))
        self.reason = reason


class SweepStart(Callback):
    """Hydra's callback that begins a sweep; launchers pickle it, so the sweep is kept elsewhere.

    Args:
        enabled: Whether the command is one whose sweeps are compared.
    """

    def __init__(self, enabled: bool = True) -> None:
        self.enabled = enabled

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Compose and check all points."""
        if not self.enabled:
            return
        try:
            self._begin(config)
        except Exception as error:
            # Hydra turns what callbacks raise into warnings, and goes on.
            raise _SweepRefusedError(error) from error

    def _begin(self, config: DictConfig) -> None:
        points = compose_points(config)
        settings = OmegaConf.to_object(config.sweep)
        assert isinstance(settings, SweepConfig)
        experiment = config.hydra.runtime.choices.get("experiment")
        sweep = Sweep(
            Path(config.hydra.sweep.dir),
            settings,
            points,
            str(experiment) if experiment else None,
        )
        sweep.begin()
        if str(config.hydra.launcher.get("_target_", "")).endswith(".SlurmLauncher"):
            sweep.submitted()
        _current.append(sweep)


def supervise(run: Callable[[], Any]) -> Any:
    """Call Hydra's main function, and end the sweep that it may have been.

    Raises:
        UserError: Points of the sweep failed.
    """
    _current.clear()
    try:
        result = run()
    except _SweepRefusedError as refused:
        raise refused.reason from None
    except BaseException as error:
        lost = explain_lost_job(error)
        if lost is not None and _current:
            # The first job without a result is not the end of the others.
            print(f"{lost}\nwaiting for the other jobs", file=sys.stderr, flush=True)
            _end_after_lost_job(_current.pop(), lost, error)
        with contextlib.suppress(IndexError):
            sweep = _current.pop()
            if isinstance(error, Exception):
                sweep.close()
            else:
                sweep.interrupted()
        raise
    if _current:
        _current.pop().end()
    return result


def _end_after_lost_job(sweep: Sweep, lost: str, error: BaseException) -> NoReturn:
    try:
        sweep.end()
    except UserError as failed:
        raise UserError(f"{lost}\n{failed}") from error
    raise UserError(lost) from error


def command() -> str:
    """Return the command line as it was typed."""
    words = sys.orig_argv[1:] if sys.orig_argv else sys.argv
    return shlex.join([Path(sys.executable).name, *words])


def continuing_command(folder: Path) -> str:
    """Return the command line that goes on with the sweep in ``folder``."""
    words = [word for word in shlex.split(command()) if not word.startswith("hydra.sweep.dir=")]
    return shlex.join([*words, f"hydra.sweep.dir={folder}"])
