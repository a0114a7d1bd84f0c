"""A warm interpreter that forks a contained process for every program.

It reads requests from its standard input and writes answers to its standard output, each a length
(four bytes, big-endian) and JSON. It holds no expected value: what it is asked to call, it calls,
and what comes back, it hands on.

A request: ``code``; ``entry``; ``calls``, a list of encoded arguments; or ``judge``, statements
that are run in a process apart from the program's, with its functions as stand-ins. The answer:
``frames`` (what came back, in order), ``end`` ("exit", "signal N", "timeout", "output") and
``seconds``.
"""

import contextlib
import importlib
import json
import os
import select
import shutil
import signal
import socket
import struct
import sys
import time

import candidate
import hardening
import judge

# Imported once, before any program: what programs import most.
for _name in (
    "bisect", "collections", "copy", "datetime", "decimal", "fractions", "functools", "hashlib",
    "heapq", "itertools", "math", "operator", "random", "re", "statistics", "string", "typing",
):  # fmt: skip
    importlib.import_module(_name)

_FRAME = struct.Struct("!I")


def read_exactly(descriptor, size):
    data = b""
    while len(data) < size:
        part = os.read(descriptor, size - len(data))
        if not part:
            return None
        data += part
    return data


def write_all(descriptor, data):
    while data:
        data = data[os.write(descriptor, data) :]


class Zygote:
    """Serves requests until its standard input ends."""

    def __init__(self, settings):
        self.settings = settings
        self.limits = settings["limits"]
        self.has_namespace = settings["pid_namespace"]
        self.requests, self.answers = os.dup(0), os.dup(1)
        null = os.open(os.devnull, os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(null, number)
        self.scratch = settings["scratch"]

    def serve(self):
        self.answer({"ready": os.getpid()})
        while (header := read_exactly(self.requests, _FRAME.size)) is not None:
            body = read_exactly(self.requests, _FRAME.unpack(header)[0])
            if body is None:
                return
            answer = self.run(json.loads(body))
            self.answer(answer)
            if not answer["is_clean"]:
                return  # another one takes over, with a folder of its own

    def answer(self, value):
        data = json.dumps(value).encode()
        write_all(self.answers, _FRAME.pack(len(data)) + data)

    def run(self, request):
        started = time.monotonic()
        self.started = []
        reader, writer = os.pipe()
        if request.get("judge") is None:
            main = self.fork(writer, lambda: candidate.answer_calls(request, writer))
        else:
            ours, theirs = socket.socketpair()
            other = self.fork(theirs.fileno(), lambda: candidate.serve(request, theirs))
            theirs.close()
            main = self.fork(writer, lambda: judge.run(request, ours, writer), ours.fileno())
            ours.close()
        os.close(writer)
        try:
            data, end = self.collect(main, reader, started)
        finally:
            os.close(reader)
            self.end_all()
        end = end or self.ends.get(main, "exit")
        if request.get("judge") is not None and end == "exit":
            end = self.ends.get(other, "exit")
            if end == f"signal {signal.SIGKILL.value}" and other not in self.ended_early:
                end = "exit"  # we ended it, when the judge was done
        try:
            is_clean = self.clean()
        except OSError:
            is_clean = False
        return {
            "is_clean": is_clean,
            "frames": data.decode("utf-8", "replace").splitlines(),
            "end": end,
            "seconds": time.monotonic() - started,
        }

    def fork(self, kept, work, *more):
        """Start a contained process that keeps only the descriptors named."""
        process = os.fork()
        if process:
            self.started.append(process)
            return process
        try:
            os.setsid()
            hardening.prctl(hardening.PR_SET_PDEATHSIG, signal.SIGKILL)
            open_ones = sorted({0, 1, 2, kept, *more})
            for low, high in zip(open_ones, [*open_ones[1:], 4096]):
                os.closerange(low + 1, high)
            os.chdir(self.scratch)
            hardening.limit_resources(self.limits, limit_processes=self.has_namespace)
            hardening.prctl(hardening.PR_SET_NO_NEW_PRIVS, 1)
            if self.settings["seccomp"]:
                hardening.forbid_system_calls(processes=not self.has_namespace)
            work()
        except BaseException:
            os._exit(1)
        os._exit(0)

    def collect(self, process, reader, started):
        """Return what ``process`` wrote until it ended, and why it was not let go on, if so."""
        self.ends, self.ended_early = {}, set()
        deadline = started + self.limits["seconds_per_program"]
        handle = os.pidfd_open(process)
        os.set_blocking(reader, False)
        poll = select.poll()
        poll.register(reader, select.POLLIN)
        poll.register(handle, select.POLLIN)
        data, end = b"", None
        try:
            while True:
                left = deadline - time.monotonic()
                ready = dict(poll.poll(max(0, left) * 1000)) if left > 0 else {}
                if not ready:
                    return data, "timeout"
                over = handle in ready
                with contextlib.suppress(BlockingIOError):
                    while part := os.read(reader, 1 << 16):
                        data += part
                        if len(data) > self.limits["max_output_bytes"]:
                            return b"", "output"
                    if not over:
                        poll.unregister(reader)  # closed; its end is still awaited
                if over:
                    return data, end
        finally:
            os.close(handle)

    def end_all(self):
        """End whatever was started, wherever it hides, and take note of how each process ended."""
        self.reap(os.WNOHANG)
        self.ended_early = set(self.ends)
        while True:
            self.kill()
            if not self.reap(0):
                return

    def kill(self):
        if self.has_namespace:
            with contextlib.suppress(ProcessLookupError):
                os.kill(-1, signal.SIGKILL)  # all processes of the namespace but this one
        else:
            for process in self.children():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)

    def children(self):
        """Return the processes that are ours to end where no namespace holds them."""
        found = set(self.started)
        path = f"/proc/self/task/{os.getpid()}/children"
        with contextlib.suppress(OSError), open(path) as stream:  # orphans, where /proc is shown
            found |= {int(word) for word in stream.read().split()}
        return found

    def reap(self, flags):
        """Wait for one child, or for all that have ended; say whether there may be more."""
        try:
            while True:
                process, status = os.waitpid(-1, flags)
                if process == 0:
                    return True
                code = os.waitstatus_to_exitcode(status)
                self.ends[process] = f"signal {-code}" if code < 0 else "exit"
                if flags == 0:
                    return True
        except ChildProcessError:
            return False

    def clean(self):
        """Empty the scratch folder; say whether that went well."""
        # Folders that a program has closed to itself are opened first, from the top.
        os.chmod(self.scratch, 0o700)
        for folder, names, _ in os.walk(self.scratch):
            for name in names:
                path = os.path.join(folder, name)
                if not os.path.islink(path):
                    os.chmod(path, 0o700)
        for name in os.listdir(self.scratch):
            path = os.path.join(self.scratch, name)
            if os.path.isdir(path) and not os.path.islink(path):
                shutil.rmtree(path, ignore_errors=True)
            else:
                os.unlink(path)
        return not os.listdir(self.scratch)


def main():
    settings = json.loads(sys.argv[1])
    if settings["become"] is not None:
        hardening.become(settings["become"])
    # Nobody may read or trace this process, though the programs run as the same user.
    hardening.prctl(hardening.PR_SET_DUMPABLE, 0)
    hardening.prctl(hardening.PR_SET_CHILD_SUBREAPER, 1)
    if not settings["pid_namespace"]:
        hardening.prctl(hardening.PR_SET_PDEATHSIG, signal.SIGKILL)
    if settings["landlock"] is not None:
        hardening.restrict_files(*settings["landlock"])
    Zygote(settings).serve()


if __name__ == "__main__":
    main()
