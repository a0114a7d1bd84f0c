"""Starts the processes of a run on this machine, and sees that they end together.

Replaying the command line, as Lightning does, would run a whole sweep again in every process, and
a point that fails in one of them would leave the others waiting for it. Here, every process is
handed the settings of this one run in a file, and is gone when the run is. Nothing in this module
imports ``torch``.
"""

from __future__ import annotations

import os
import pickle
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import IO, Any

from ift_lightning.errors import RankError, StoppedBySignal, UserError
from ift_lightning.training.failure_reports import (
    FailureReport,
    first_cause,
    read_reports,
    report_of,
    write_report,
)
from ift_lightning.training.ranks import LEAVING_SECONDS, Ranks

_POLL_SECONDS = 0.1

_FORWARDED = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
# Exit codes of ranks that do what a signal has asked for.
_STOPPED = tuple(128 + number for number in _FORWARDED)
_FOLDER = "IFT_LIGHTNING_RANK_FOLDER"


def free_port() -> int:
    """Return a port of this machine that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def launch(
    task: Any,
    *,
    module: str,
    ranks: Sequence[Ranks],
    log_folder: Path,
    grace_seconds: float = 5.0,
    leaving_seconds: float = LEAVING_SECONDS,
) -> Any:
    """Run a module once per rank, and return what rank 0 made of the task.

    Args:
        task: Anything that can be pickled; :func:`rank_main` hands it to the module's function.
        module: Run as ``python -m``.
        ranks: Those of this machine.
        log_folder: Output of all but the first rank goes there, as ``rank-1.log`` and so on.
        grace_seconds: How long ranks may take to end by themselves once one has failed.
        leaving_seconds: The same, once one has stopped as a signal asked it to.

    Raises:
        UserError: What one of the ranks raised.
        RankError: A rank failed otherwise or was killed; the message says which, and how.
        StoppedBySignal: The ranks saved and stopped, as a signal asked them to.
    """
    with tempfile.TemporaryDirectory(prefix="ift_lightning-ranks-") as name:
        folder = Path(name)
        with (folder / "task.pickle").open("wb") as stream:
            pickle.dump(task, stream)
        processes: dict[int, subprocess.Popen[bytes]] = {}
        try:
            with _forwarded_signals(processes) as forwarded:
                for rank in ranks:
                    processes[rank.rank] = _start(module, rank, folder, log_folder)
                killed = _wait(processes, grace_seconds, leaving_seconds)
        finally:
            _kill(processes.values())
        codes = {rank: process.returncode for rank, process in processes.items()}
        if any(codes.values()):
            raise _failure(folder, codes, killed, log_folder, forwarded)
        result = folder / "result.pickle"
        return pickle.loads(result.read_bytes()) if result.is_file() else None


def _start(module: str, rank: Ranks, folder: Path, log_folder: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, **rank.environment(), _FOLDER: str(folder)}
    cores = os.cpu_count() or 1
    # Ranks that each took all cores would stand in each other's way.
    environment.setdefault("OMP_NUM_THREADS", str(max(1, cores // rank.local_world_size)))
    output: IO[bytes] | None = None
    if rank.local_rank > 0 or rank.rank > 0:
        log_folder.mkdir(parents=True, exist_ok=True)
        output = (log_folder / f"rank-{rank.rank}.log").open("wb")
    try:
        return subprocess.Popen(
            [sys.executable, "-m", module],
            env=environment,
            # Its end tells a rank that this process has gone, however it went.
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            # An interrupt at the keyboard comes here first, and is passed on as SIGTERM.
            start_new_session=True,
        )
    finally:
        if output is not None:
            output.close()


@contextmanager
def _forwarded_signals(processes: dict[int, subprocess.Popen[bytes]]) -> Iterator[list[int]]:
    """Pass signals on to all ranks while the block runs; the list says which have been."""
    forwarded: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield forwarded
        return

    def forward(number: int, _: FrameType | None) -> None:
        sent = signal.SIGTERM if number == signal.SIGINT else number
        forwarded.append(sent)
        for process in processes.values():
            if process.poll() is None:
                process.send_signal(sent)

    before = {number: signal.signal(number, forward) for number in (*_FORWARDED, signal.SIGINT)}
    try:
        yield forwarded
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _wait(
    processes: dict[int, subprocess.Popen[bytes]], grace_seconds: float, leaving_seconds: float
) -> set[int]:
    """Wait for all ranks; where one fails, end the others. Return those that were ended."""
    deadline: float | None = None
    while True:
        codes = {rank: process.poll() for rank, process in processes.items()}
        left = {rank for rank, code in codes.items() if code is None}
        if not left:
            return set()
        now = time.monotonic()
        gone = [code for code in codes.values() if code]
        if gone:
            stopped = all(code in _STOPPED for code in gone)
            latest = now + (leaving_seconds if stopped else grace_seconds)
            deadline = latest if deadline is None else min(deadline, latest)
        if deadline is not None and now > deadline:
            _kill(processes[rank] for rank in left)
            return left
        time.sleep(_POLL_SECONDS)


def _kill(processes: Any) -> None:
    for process in list(processes):
        if process.poll() is None:
            process.kill()
        process.wait()
        if process.stdin is not None:
            process.stdin.close()


def _failure(
    folder: Path, codes: dict[int, int], ended: set[int], log_folder: Path, forwarded: list[int]
) -> BaseException:
    """Return the exception that says which rank failed first, and how.

    Args:
        folder: Holds what ranks said of themselves.
        codes: Exit codes by rank.
        ended: Ranks that were killed here, after another one had failed.
        log_folder: Named in messages.
        forwarded: Signals that were passed on.
    """
    reports = read_reports(folder)
    stopped = [report for report in reports if report.kind == "stopped"]
    if stopped and len(stopped) == len(reports):
        return StoppedBySignal(int(stopped[0].message))
    cause = first_cause(reports)
    if cause is not None:
        return cause.exception()
    reported = {report.rank for report in reports} | ended
    dead = [rank for rank, code in codes.items() if code < 0 and rank not in reported]
    if dead and -codes[dead[0]] in forwarded:
        return StoppedBySignal(-codes[dead[0]])  # before it could listen: there is nothing to save
    if dead:
        name = signal.Signals(-codes[dead[0]]).name
        hint = " (the kernel kills what takes too much memory)" if name == "SIGKILL" else ""
        return RankError(f"rank {dead[0]} was killed by {name}{hint}; the other ranks were ended")
    if reports:
        return reports[0].exception()
    failed = {rank: code for rank, code in codes.items() if code}
    return RankError(f"ranks ended with {failed} and said nothing; see {log_folder}")


def rank_main(function: Callable[[Any], Any]) -> None:
    """Be one rank: read the task, call ``function`` with it, and report how it went."""
    folder = Path(os.environ.pop(_FOLDER))
    rank = int(os.environ["RANK"])
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    try:
        with (folder / "task.pickle").open("rb") as stream:
            task = pickle.load(stream)
        result = function(task)
    except StoppedBySignal as error:
        report = FailureReport(rank, "stopped", str(error.signal_number), time.time())
        _leave(folder, report, 128 + error.signal_number)
    except BaseException as error:
        if not isinstance(error, UserError):
            traceback.print_exc()
        _leave(folder, report_of(rank, error), 1)
    if rank == 0:
        (folder / "result.pickle").write_bytes(pickle.dumps(result))


def _leave(folder: Path, report: FailureReport, code: int) -> None:
    write_report(folder, report)
    sys.stdout.flush()
    sys.stderr.flush()
    # At once: the end of the interpreter waits for connections that nobody answers any more.
    os._exit(code)


def _leave_with_parent() -> None:
    """End this process when the one that started it has gone."""
    while os.read(sys.stdin.fileno(), 1):
        pass
    os.kill(os.getpid(), signal.SIGKILL)
