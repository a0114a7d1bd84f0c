"""The sandbox: programs in, outcomes out, in order, on all cores."""

from __future__ import annotations

import contextlib
import os
import queue
import secrets
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from types import TracebackType
from typing import Self

from ift_lightning.errors import UserError
from ift_lightning.evaluation.sandbox.grading import grade, setup_failure
from ift_lightning.evaluation.sandbox.inside import wire
from ift_lightning.evaluation.sandbox.levels import LevelUnavailableError, prepare
from ift_lightning.evaluation.sandbox.self_test import check_level
from ift_lightning.evaluation.sandbox.test_plan import SourceTest, Test, plan_tests
from ift_lightning.evaluation.sandbox.types import (
    Level,
    Outcome,
    Program,
    SandboxLimits,
    Verdict,
)
from ift_lightning.evaluation.sandbox.worker import Worker, WorkerError

_AHEAD = 4  # programs per worker that are taken from the iterable before their turn
_STRONG_LEVELS = (Level.BUBBLEWRAP, Level.NAMESPACES, Level.LANDLOCK_SECCOMP)


class Sandbox:
    """Runs code that a model wrote, isolated from this machine.

    A context manager; the level is chosen, and tried, on entry. One sandbox may be used by one
    thread at a time.

    Args:
        limits: Bounds for each program.
        level: The level to use; None takes the strongest that holds on this machine.
        num_workers: Programs run at the same time; None: one per core.
        allow_weak: Whether programs may run under resource limits alone, which keep nothing from
            reading files or using the network.
    """

    def __init__(
        self,
        limits: SandboxLimits | None = None,
        level: Level | None = None,
        num_workers: int | None = None,
        allow_weak: bool = False,
    ) -> None:
        if num_workers is not None and num_workers < 1:
            raise UserError(f"sandbox.num_workers is {num_workers}; it has to be at least 1")
        self.limits = limits or SandboxLimits()
        self.num_workers = num_workers or len(os.sched_getaffinity(0))
        self._wanted = None if level is None else Level(level)
        self._allow_weak = allow_weak
        self._level: Level | None = None
        self._tasks: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []

    @property
    def level(self) -> Level:
        """The level in use; chosen on entry."""
        if self._level is None:
            self._level = choose_level(self.limits, self._wanted, allow_weak=self._allow_weak)
        return self._level

    def __enter__(self) -> Self:
        level = self.level
        for number in range(self.num_workers):
            thread = threading.Thread(
                target=_work,
                args=(self._tasks, level, self.limits, number),
                name=f"sandbox-{number}",
                daemon=True,
            )
            thread.start()
            self._threads.append(thread)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with contextlib.suppress(queue.Empty):
            while (task := self._tasks.get_nowait()) is not None:
                task.future.cancel()  # after an interruption, nobody waits for these
        for _ in self._threads:
            self._tasks.put(None)
        for thread in self._threads:
            thread.join()
        self._threads.clear()

    def run(self, programs: Iterable[Program]) -> Iterator[Outcome]:
        """Run programs, and yield their outcomes in the same order.

        Raises:
            UserError: A program's tests have no known form.
            WorkerError: The sandbox itself failed twice over the same program.
        """
        if not self._threads:
            raise RuntimeError("use the sandbox as a context manager: with Sandbox() as sandbox")
        waiting: deque[Future[Outcome]] = deque()
        try:
            for program in programs:
                waiting.append(self._submit(program))
                if len(waiting) >= _AHEAD * self.num_workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()

    def _submit(self, program: Program) -> Future[Outcome]:
        future: Future[Outcome] = Future()
        tests = plan_tests(program)
        if program.code.strip():
            self._tasks.put(_Task(program, tests, future))
            return future
        future.set_result(
            Outcome(
                id=program.id,
                verdict=Verdict.NO_CODE,
                executed=False,
                num_passed=0,
                num_tests=len(tests),
                detail="there is no code",
                judged_in_child=False,
                seconds=0.0,
            )
        )
        return future


class _Task:
    def __init__(self, program: Program, tests: list[Test], future: Future[Outcome]) -> None:
        self.program = program
        self.tests = tests
        self.future = future


def choose_level(
    limits: SandboxLimits, wanted: Level | None = None, *, allow_weak: bool = False
) -> Level:
    """Return the strongest level that holds on this machine.

    Args:
        limits: That the level has to keep.
        wanted: Try this level alone.
        allow_weak: Whether resource limits alone are good enough, where nothing else holds.

    Raises:
        UserError: None does; the message has the reason for each.
    """
    candidates = list(_STRONG_LEVELS) if wanted is None else [Level(wanted)]
    if wanted is None and allow_weak:
        candidates.append(Level.RLIMITS)
    if wanted == Level.RLIMITS and not allow_weak:
        raise UserError(
            "sandbox.level=rlimits keeps a program from neither files nor network. Set "
            "sandbox.allow_weak=true if you trust every program that will run."
        )
    reasons = []
    for level in candidates:
        try:
            check_level(level, limits)
        except LevelUnavailableError as error:
            reasons.append(f"{level}: {error}")
        else:
            return level
    raise UserError(
        "No sandbox level holds on this machine, so no generated code is run. "
        + "; ".join(reasons)
        + ". Install bubblewrap (apt-get install bubblewrap), or allow user namespaces. "
        "sandbox.allow_weak=true runs code under resource limits alone: only for code you trust."
    )


def _work(
    tasks: queue.SimpleQueue[_Task | None], level: Level, limits: SandboxLimits, number: int
) -> None:
    """Serve tasks until None comes. The worker's processes die with this thread."""
    worker = Worker(prepare(level, limits, number + 1))
    try:
        while (task := tasks.get()) is not None:
            if not task.future.set_running_or_notify_cancel():
                continue
            try:
                task.future.set_result(_run_task(worker, task, limits))
            except BaseException as error:
                worker.stop()
                task.future.set_exception(error)
    finally:
        worker.stop()


def _run_task(worker: Worker, task: _Task, limits: SandboxLimits) -> Outcome:
    try:
        return _run_once(worker, task, limits)
    except WorkerError:
        worker.stop()
        return _run_once(worker, task, limits)


def _run_once(worker: Worker, task: _Task, limits: SandboxLimits) -> Outcome:
    program = task.program
    word = secrets.token_hex(16)
    sources = [test.source for test in task.tests if isinstance(test, SourceTest)]
    steps = [
        [
            [
                call.name,
                [wire.encode(value) for value in call.args],
                {name: wire.encode(value) for name, value in call.kwargs.items()},
            ]
            for call in test.calls
        ]
        for test in task.tests
        if not isinstance(test, SourceTest)
    ]
    judge = {"word": word, "entry_point": program.entry_point, "sources": sources}
    reply = worker.run(program.code, steps, judge if sources else None, limits.seconds_per_program)
    problem = setup_failure(reply)
    if problem is not None:
        raise WorkerError(f"program '{program.id}' could not be started: {problem}")
    return grade(program, task.tests, reply, word, limits.tolerance)
