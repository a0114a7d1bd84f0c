"""The warm interpreter: waits for programs, and forks a locked-down process for each of them.

For one program it makes, where there are namespaces, a first process of a new pid, mount and IPC
namespace (the keeper), and below that the judge and the candidate. When the keeper dies, the kernel
ends everything in its namespace, and the memory file system goes with it: nothing is left for the
next program. The zygote itself never runs nor parses anything that a candidate made; it passes
bytes on.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from dataclasses import replace
from typing import Any

from . import candidate, judge, kernel, lockdown, remote, root, wire
from .lockdown import Settings

# What programs import most; a fork inherits it.
WARM_MODULES = (
    "abc",
    "array",
    "bisect",
    "cmath",
    "collections",
    "contextlib",
    "copy",
    "dataclasses",
    "datetime",
    "decimal",
    "enum",
    "fractions",
    "functools",
    "hashlib",
    "heapq",
    "io",
    "itertools",
    "json",
    "math",
    "numbers",
    "operator",
    "os",
    "queue",
    "random",
    "re",
    "statistics",
    "string",
    "struct",
    "sys",
    "textwrap",
    "threading",
    "time",
    "traceback",
    "types",
    "typing",
    "unicodedata",
)


_WATCH_SECONDS = 0.02  # between two looks at memory
_FRAMING_BYTES = 1 << 16  # around the values themselves
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def serve(settings: Settings) -> None:
    """Answer requests on standard input until it closes.

    A request is a frame for the candidate and a frame for the judge, which may be empty. An answer
    is a frame of facts (how the processes ended, which limit was hit) and two frames of raw bytes
    from the candidate and the judge.
    """
    for name in WARM_MODULES:
        __import__(name)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if settings.isolation != lockdown.NAMESPACES:
        kernel.adopt_orphans()
    space, resident = _statm(os.getpid())
    settings = replace(settings, interpreter_bytes=space, interpreter_resident_bytes=resident)
    wire.write_all(1, wire.frame(b"ready"))
    while True:
        try:
            request = wire.load(wire.read_frame(0))
            judge_bytes = int.from_bytes(wire.read_exactly(0, 4), "big")
        except EOFError:
            return
        for payload in _Run(settings, request, judge_bytes).result():
            wire.write_all(1, wire.frame(payload))


def _statm(pid: int) -> tuple[int, int]:
    """Return address space and resident set of a process, in bytes."""
    with open(f"/proc/{pid}/statm", "rb") as file:
        fields = file.read().split()
    return int(fields[0]) * _PAGE_BYTES, int(fields[1]) * _PAGE_BYTES


class _Run:
    """One program, from the fork to the last byte."""

    def __init__(self, settings: Settings, request: dict[str, Any], judge_bytes: int) -> None:
        self.settings = settings
        self.request = request
        self.judge_bytes = judge_bytes
        self.seconds = float(request["seconds"])
        self.results: dict[int, bytearray] = {}
        self.stopped: str | None = None

    def result(self) -> tuple[bytes, bytes, bytes]:
        results, results_end = os.pipe()
        verdicts, verdicts_end = os.pipe()
        control, control_end = os.pipe()
        task_end, task = os.pipe()
        started = time.monotonic()
        ends = _Ends(results_end, verdicts_end, control_end, task_end)
        namespaces = 0
        if self.settings.isolation == lockdown.NAMESPACES:
            namespaces = kernel.CLONE_NEWPID | kernel.CLONE_NEWNS | kernel.CLONE_NEWIPC
        keeper = kernel.fork_into(namespaces)
        if keeper == 0:
            _keep(self.settings, self.request, ends, has_judge=self.judge_bytes > 0)
        for descriptor in (results_end, verdicts_end, control_end, task_end):
            os.close(descriptor)
        self._hand_over_task(task)
        self.results = {results: bytearray(), verdicts: bytearray(), control: bytearray()}
        self._collect(control, started + self.seconds)
        seconds = time.monotonic() - started
        self._end(keeper)
        self._drain()
        report = bytes(self.results[control])
        for descriptor in self.results:
            os.close(descriptor)
        facts = {"report": report.decode("ascii"), "stopped": self.stopped, "seconds": seconds}
        return wire.dump(facts), bytes(self.results[results]), bytes(self.results[verdicts])

    def _hand_over_task(self, task: int) -> None:
        """Move the judge's task to the judge, inside the kernel.

        The expected values in it never enter the memory that the next candidate is a copy of.
        """
        left = self.judge_bytes
        try:
            while left:
                moved = os.splice(0, task, left)
                if not moved:
                    os._exit(1)  # the parent is gone
                left -= moved
        except BrokenPipeError:
            wire.read_exactly(0, left)  # the judge is gone; its verdict will be missed
        os.close(task)

    def _collect(self, control: int, deadline: float) -> None:
        """Read what the processes send until they have ended, or a limit is hit."""
        poll = select.poll()
        for descriptor in self.results:
            poll.register(descriptor, select.POLLIN)
        poll.register(0, 0)  # only whether the parent has hung up
        num_open = len(self.results)
        while num_open:
            left = deadline - time.monotonic()
            if left <= 0:
                self.stopped = "timeout"
                return
            for descriptor, _ in poll.poll(1000 * min(left, _WATCH_SECONDS) + 1):
                if descriptor == 0:
                    os._exit(1)
                data = os.read(descriptor, 1 << 16)
                if not data:
                    poll.unregister(descriptor)
                    num_open -= 1
                    if descriptor == control:
                        return
                self.results[descriptor] += data
                if len(self.results[descriptor]) > self.settings.max_output_bytes + _FRAMING_BYTES:
                    self.stopped = "output"
                    return
            if self._uses_too_much_memory():
                self.stopped = "memory"
                return

    def _uses_too_much_memory(self) -> bool:
        """Whether all processes together hold more memory than one is allowed to."""
        if self.settings.isolation != lockdown.NAMESPACES:
            return False
        total = 0
        for pid in _other_processes():
            with contextlib.suppress(OSError, IndexError):
                # What it has beyond the pages that it shares with this interpreter.
                total += max(0, _statm(pid)[1] - self.settings.interpreter_resident_bytes)
        return total > self.settings.memory_bytes

    def _end(self, keeper: int) -> None:
        os.kill(keeper, signal.SIGKILL)
        os.waitpid(keeper, 0)  # with namespaces: returns when the whole namespace is empty
        if self.settings.isolation == lockdown.NAMESPACES:
            if _other_processes():
                os._exit(1)  # never seen; the parent then starts a fresh interpreter
            return
        with contextlib.suppress(ChildProcessError):
            while True:
                if os.waitpid(-1, os.WNOHANG)[0]:
                    continue
                for pid in _descendants(os.getpid()):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                os.waitpid(-1, 0)

    def _drain(self) -> None:
        for descriptor, collected in self.results.items():
            os.set_blocking(descriptor, False)
            with contextlib.suppress(BlockingIOError):
                while len(collected) <= self.settings.max_output_bytes + _FRAMING_BYTES:
                    data = os.read(descriptor, 1 << 16)
                    if not data:
                        break
                    collected += data


def _other_processes() -> list[int]:
    own = {1, os.getpid()}
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) not in own]


def _descendants(ancestor: int) -> list[int]:
    parents: dict[int, int] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError, IndexError), open(f"/proc/{name}/stat", "rb") as file:
                parents[int(name)] = int(file.read().rpartition(b")")[2].split()[1])
    found, frontier = [], [ancestor]
    while frontier:
        frontier = [pid for pid, parent in parents.items() if parent in frontier]
        found += frontier
    return found


class _Ends:
    """The descriptors that the keeper's side of a run uses."""

    def __init__(self, results: int, verdicts: int, control: int, task: int) -> None:
        self.results = results
        self.verdicts = verdicts
        self.control = control
        self.task = task


def _keep(settings: Settings, request: dict[str, Any], ends: _Ends, *, has_judge: bool) -> None:
    """Be the first process of a program: make the others, wait for them, report, and end."""
    report: dict[str, Any] = {}
    try:
        lockdown.silence()
        kernel.die_with_parent()
        lockdown.keep_descriptors(ends.results, ends.verdicts, ends.control, ends.task)
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
                _be_judge(settings, request["seconds"], judge_uid, kept)
        candidate_pid = os.fork()
        if candidate_pid == 0:
            _be_candidate(settings, request, ends.results, (questions, answers_end), has_judge)
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
    request: dict[str, Any],
    results: int,
    pipes: tuple[int, int],
    has_judge: bool,
) -> None:
    try:
        lockdown.keep_descriptors(results, *(pipes if has_judge else ()))
        lockdown.lock_down(settings, request["seconds"], settings.uid)
    except BaseException as error:
        failure = {"setup": f"{type(error).__name__}: {error}"}
        wire.write_all(results, wire.frame(wire.dump(failure)))
        os._exit(1)
    try:
        judge_pipes = pipes if has_judge else None
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
        parts = []
        while part := os.read(task, 1 << 16):
            parts.append(part)
        os.close(task)
        judge.run(wire.load(b"".join(parts)), verdicts, remote.Connection(questions, answers))
    finally:
        os._exit(0)
