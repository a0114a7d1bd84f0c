"""The warm interpreter: waits for programs, and forks a locked-down process for each of them.

For one program it makes, where there are namespaces, a first process of a new pid, mount and IPC
namespace (the keeper), and below that the judge and the candidate. When the keeper dies, the kernel
ends everything in its namespace, and the memory file system goes with it: nothing is left for the
next program. The zygote itself never runs nor parses anything that a candidate made. It does not
even hold it: programs, tests and values are moved from pipe to pipe inside the kernel. Every
program starts as a copy of this process, and could otherwise find in it what was here before, such
as the reference answer to its own task.
"""

from __future__ import annotations

import array
import contextlib
import fcntl
import os
import select
import signal
import termios
import time
from dataclasses import replace
from typing import Any

from . import keeper, kernel, lockdown, wire
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

    A request is a frame that says how long the program may take and how many bytes follow: for the
    candidate, and for the judge, which may be none. An answer is any number of chunks of what the
    candidate and the judge send, and last a chunk of facts: how the processes ended, which limit
    was hit. A chunk is a byte that says what it is, and a frame.
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
            header = wire.load(wire.read_frame(0))
        except EOFError:
            return
        facts = _Run(settings, header).facts()
        wire.write_all(1, wire.FACTS + wire.frame(wire.dump(facts)))


def _statm(pid: int) -> tuple[int, int]:
    """Return address space and resident set of a process, in bytes."""
    with open(f"/proc/{pid}/statm", "rb") as file:
        fields = file.read().split()
    return int(fields[0]) * _PAGE_BYTES, int(fields[1]) * _PAGE_BYTES


class _Run:
    """One program, from the fork to the last byte."""

    def __init__(self, settings: Settings, header: dict[str, Any]) -> None:
        self.settings = settings
        self.seconds = float(header["seconds"])
        self.request_bytes = int(header["request_bytes"])
        self.judge_bytes = int(header["judge_bytes"])
        self.tags: dict[int, bytes] = {}  # descriptor to read from -> what it brings
        self.num_sent: dict[int, int] = {}  # descriptor -> bytes handed on
        self.report = b""
        self.stopped: str | None = None

    def facts(self) -> dict[str, Any]:
        """Run the program, hand on what it sends, and return what became of it."""
        results, results_end = os.pipe()
        verdicts, verdicts_end = os.pipe()
        control, control_end = os.pipe()
        request_end, request = os.pipe()
        task_end, task = os.pipe()
        started = time.monotonic()
        ends = keeper.Ends(results_end, verdicts_end, control_end, request_end, task_end)
        namespaces = 0
        if self.settings.isolation == lockdown.NAMESPACES:
            namespaces = kernel.CLONE_NEWPID | kernel.CLONE_NEWNS | kernel.CLONE_NEWIPC
        pid = kernel.fork_into(namespaces)
        if pid == 0:
            keeper.keep(self.settings, self.seconds, ends, has_judge=self.judge_bytes > 0)
        for descriptor in (results_end, verdicts_end, control_end, request_end, task_end):
            os.close(descriptor)
        _hand_over(request, self.request_bytes)
        _hand_over(task, self.judge_bytes)
        self.tags = {results: wire.RESULTS, verdicts: wire.VERDICTS}
        self.num_sent = dict.fromkeys(self.tags, 0)
        self._collect(control, started + self.seconds)
        seconds = time.monotonic() - started
        self._end(pid)
        for descriptor in self.tags:
            while self._hand_on(descriptor):
                pass
        self._read_report(control)
        for descriptor in (control, *self.tags):
            os.close(descriptor)
        return {"report": self.report.decode("ascii"), "stopped": self.stopped, "seconds": seconds}

    def _collect(self, control: int, deadline: float) -> None:
        """Hand on what the processes send until they have ended, or a limit is hit."""
        poll = select.poll()
        for descriptor in (control, *self.tags):
            poll.register(descriptor, select.POLLIN)
        poll.register(0, 0)  # only whether the parent has hung up
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                self.stopped = "timeout"
                return
            for descriptor, _ in poll.poll(1000 * min(left, _WATCH_SECONDS) + 1):
                if descriptor == 0:
                    os._exit(1)
                if descriptor == control:
                    if not self._read_report(control):
                        return
                elif not self._hand_on(descriptor):
                    if self.stopped:
                        return
                    poll.unregister(descriptor)
            if self._uses_too_much_memory():
                self.stopped = "memory"
                return

    def _read_report(self, control: int) -> bool:
        """Read what the keeper has sent; return whether more may come."""
        data = os.read(control, 1 << 16)
        self.report += data
        return bool(data)

    def _hand_on(self, descriptor: int) -> bool:
        """Move what is in a pipe to the parent; return whether there was anything.

        Nothing is moved, either, where it would be more than a program may send.
        """
        waiting = array.array("i", [0])
        fcntl.ioctl(descriptor, termios.FIONREAD, waiting)
        num_bytes = waiting[0]
        most = self.settings.max_output_bytes + _FRAMING_BYTES
        if self.num_sent[descriptor] + num_bytes > most:
            self.stopped = self.stopped or "output"
            return False
        if not num_bytes:
            return False
        self.num_sent[descriptor] += num_bytes
        wire.write_all(1, self.tags[descriptor] + num_bytes.to_bytes(4, "big"))
        _splice(descriptor, 1, num_bytes)
        return True

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

    def _end(self, pid: int) -> None:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)  # with namespaces: returns when the whole namespace is empty
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


def _hand_over(pipe: int, num_bytes: int) -> None:
    """Move bytes from standard input into a pipe, and close it."""
    try:
        _splice(0, pipe, num_bytes)
    finally:
        os.close(pipe)


def _splice(source: int, target: int, num_bytes: int) -> None:
    """Move bytes from a pipe to another one; where nobody reads that one, they are dropped."""
    null = -1
    while num_bytes:
        try:
            moved = os.splice(source, target if null < 0 else null, num_bytes)
        except BrokenPipeError:
            if target == 1:
                os._exit(1)  # the parent is gone
            null = os.open("/dev/null", os.O_WRONLY)
            continue
        if not moved:
            os._exit(1)  # the parent is gone
        num_bytes -= moved
    if null >= 0:
        os.close(null)


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
