"""The first process of a program: it makes judge and candidate, waits for them, and reports."""

from __future__ import annotations

import contextlib
import os
from typing import Any

from . import candidate, judge, kernel, lockdown, remote, root, wire
from .lockdown import Settings


class Ends:
    """The descriptors that this side of a run uses."""

    def __init__(self, results: int, verdicts: int, control: int, request: int, task: int) -> None:
        self.results = results
        self.verdicts = verdicts
        self.control = control
        self.request = request
        self.task = task

    def all(self) -> tuple[int, ...]:
        return (self.results, self.verdicts, self.control, self.request, self.task)


def _read_all(descriptor: int) -> Any:
    """Return the message that is all there is in a pipe."""
    parts = []
    while part := os.read(descriptor, 1 << 16):
        parts.append(part)
    os.close(descriptor)
    return wire.load(b"".join(parts))


def keep(settings: Settings, seconds: float, ends: Ends, *, has_judge: bool) -> None:
    """Be the first process of a program: make the others, wait for them, report, and end."""
    report: dict[str, Any] = {}
    try:
        lockdown.silence()
        kernel.die_with_parent()
        lockdown.keep_descriptors(*ends.all())
        request = _read_all(ends.request)
        uid = settings.uid
        if settings.isolation == lockdown.NAMESPACES:
            owner = os.getuid() if uid is None else uid
            root.make_private_view(settings.disk_bytes, owner)
        else:
            os.chdir("/")
        questions, questions_end = os.pipe()
        answers, answers_end = os.pipe()
        judge_pid = 0
        if has_judge:
            judge_pid = os.fork()
            if judge_pid == 0:
                kept = (ends.verdicts, ends.task, questions_end, answers)
                judge_uid = None if uid is None else uid + 1
                _be_judge(settings, seconds, judge_uid, kept)
        candidate_pid = os.fork()
        if candidate_pid == 0:
            judge_pipes = (questions, answers_end) if has_judge else None
            _be_candidate(settings, seconds, request, ends.results, judge_pipes)
        lockdown.keep_descriptors(ends.control)
        report = _wait_for(candidate_pid, judge_pid)
    except BaseException as error:
        report = {"error": f"{type(error).__name__}: {error}"}
    with contextlib.suppress(OSError):
        wire.write_all(ends.control, wire.dump(report))
    os._exit(0)


def _wait_for(candidate_pid: int, judge_pid: int) -> dict[str, Any]:
    statuses: dict[int, int] = {}
    wanted = {candidate_pid, judge_pid} - {0}
    while wanted - statuses.keys():
        pid, status = os.wait()
        statuses[pid] = status
    return {"candidate": statuses[candidate_pid], "judge": statuses.get(judge_pid)}


def _be_candidate(
    settings: Settings,
    seconds: float,
    request: dict[str, Any],
    results: int,
    judge_pipes: tuple[int, int] | None,
) -> None:
    try:
        lockdown.keep_descriptors(results, *(judge_pipes or ()))
        lockdown.lock_down(settings, seconds, settings.uid)
    except BaseException as error:
        failure = {"setup": f"{type(error).__name__}: {error}"}
        wire.write_all(results, wire.frame(wire.dump(failure)))
        os._exit(1)
    try:
        candidate.run(request, results, settings.max_output_bytes, judge_pipes)
    finally:
        candidate.leave()


def _be_judge(
    settings: Settings, seconds: float, uid: int | None, kept: tuple[int, int, int, int]
) -> None:
    verdicts, task, questions, answers = kept
    try:
        lockdown.keep_descriptors(*kept)
        lockdown.lock_down(settings, seconds, uid)
        judge.run(_read_all(task), verdicts, remote.Connection(questions, answers))
    finally:
        os._exit(0)
