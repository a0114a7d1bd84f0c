"""Runs programs on all cores, at the strongest level that this machine can keep."""

from __future__ import annotations

import logging
import os
import queue
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType

from ift_lightning.errors import UserError
from ift_lightning.evaluation.sandbox.expectations import TestPlan, plan_tests
from ift_lightning.evaluation.sandbox.judging import judge, request_for
from ift_lightning.evaluation.sandbox.levels import Level
from ift_lightning.evaluation.sandbox.outcomes import Outcome, Program, SandboxLimits, Verdict
from ift_lightning.evaluation.sandbox.probe import find_leaks
from ift_lightning.evaluation.sandbox.worker import Worker, WorkerError, remove_leftovers

_NUM_ATTEMPTS = 2
"""At starting a level: on a busy machine, the first may run out of time."""

_LOG = logging.getLogger(__name__)


class Sandbox:
    """Runs programs that nobody has read.

    Entering it starts an interpreter at each level, from the strongest on, and lets it try to get
    out; the first level that holds is used.

    Args:
        limits: What one program may use.
        level: Only this level; None for the strongest that holds here.
        num_workers: Programs at a time; None for the number of cores.
        allow_weak: Whether :attr:`Level.RLIMITS` may be used, which contains nothing hostile.
    """

    level: Level

    def __init__(
        self,
        limits: SandboxLimits | None = None,
        level: Level | None = None,
        num_workers: int | None = None,
        allow_weak: bool = False,
    ) -> None:
        self.limits = limits or SandboxLimits()
        self._wanted = level
        self._allow_weak = allow_weak
        self.num_workers = num_workers or len(os.sched_getaffinity(0))
        self.refused: dict[Level, str] = {}
        self._workers: list[Worker] = []
        self._idle: queue.SimpleQueue[Worker] = queue.SimpleQueue()

    def __enter__(self) -> Sandbox:
        remove_leftovers()
        self._starter = ThreadPoolExecutor(1, thread_name_prefix="sandbox-starter")
        try:
            first = self._strongest()
        except BaseException:
            self._starter.shutdown()
            raise
        self._workers = [first]
        self._workers += [
            Worker(self.level, self.limits, self._starter) for _ in range(self.num_workers - 1)
        ]
        for worker in self._workers:
            self._idle.put(worker)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for worker in self._workers:
            worker.stop()
        self._starter.shutdown()
        self._workers.clear()
        self._idle = queue.SimpleQueue()

    def _strongest(self) -> Worker:
        """Start a worker at the strongest level that holds.

        Raises:
            UserError: None does.
        """
        for level in Level if self._wanted is None else (self._wanted,):
            if level is Level.RLIMITS and not self._allow_weak:
                self.refused[level] = "it contains nothing that is hostile"
                continue
            worker = Worker(level, self.limits, self._starter)
            leaks = self._try_out(worker)
            # Limits alone are what somebody has asked for: that they leak is known.
            if not leaks or level is Level.RLIMITS:
                self.level = level
                return worker
            worker.stop()
            self.refused[level] = "; ".join(leaks)
            _LOG.info("sandbox level %s is not used: %s", level.value, self.refused[level])
        reasons = "\n".join(f"  {level.value}: {reason}" for level, reason in self.refused.items())
        raise UserError(
            "generated code cannot be run: no level of the sandbox holds on this machine\n"
            f"{reasons}\nInstall bubblewrap, or, for code that you trust, set "
            "sandbox.allow_weak=true"
        )

    @staticmethod
    def _try_out(worker: Worker) -> list[str]:
        """Return why a level cannot be trusted here; empty where it can."""
        reason = ""
        for _ in range(_NUM_ATTEMPTS):
            try:
                worker.start()
                return find_leaks(worker)
            except WorkerError as error:
                worker.stop()
                reason = str(error)
        return [reason]

    def run(self, programs: Iterable[Program]) -> Iterator[Outcome]:
        """Run programs side by side, and yield their outcomes in order.

        Raises:
            UserError: A program's tests are none of the known kinds.
        """
        if not self._workers:
            raise RuntimeError("a sandbox has to be entered: with Sandbox() as sandbox")
        pool = ThreadPoolExecutor(self.num_workers, thread_name_prefix="sandbox")
        try:
            yield from pool.map(self._run, programs)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _run(self, program: Program) -> Outcome:
        plan = plan_tests(program.tests, program.entry_point)
        if not program.code.strip():
            return _without_run(program, plan, Verdict.NO_CODE, "there is no code")
        try:
            request = request_for(program, plan)
        except UnicodeEncodeError:
            return _without_run(program, plan, Verdict.NO_CODE, "the code is no text")
        worker = self._idle.get()
        try:
            answer = worker.ask(request)
        except WorkerError as error:
            return _without_run(program, plan, Verdict.CRASH, f"the sandbox went with it: {error}")
        finally:
            self._idle.put(worker)
        return judge(program, plan, answer, self.limits)


def _without_run(program: Program, plan: TestPlan, verdict: Verdict, detail: str) -> Outcome:
    return Outcome(program.id, verdict, False, 0, plan.num_tests, detail)
