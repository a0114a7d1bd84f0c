"""The parent's side of one zygote: start it, ask it, and start another where it fails."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import struct
import subprocess
import tempfile
import time
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

from ift_lightning.evaluation.sandbox.levels import Level, contained_command
from ift_lightning.evaluation.sandbox.outcomes import SandboxLimits

_FRAME = struct.Struct("!I")
_START_SECONDS = 20.0
_GRACE_SECONDS = 10.0
"""On top of a program's own time, for a busy machine."""


_FOLDER_PREFIX = "ift-sandbox"


def remove_leftovers() -> None:
    """Remove the private folders of processes that were killed before they could."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_FOLDER_PREFIX}-*-*"):
        owner = folder.name.split("-")[2]
        if owner.isdigit() and not Path(f"/proc/{owner}").exists():
            shutil.rmtree(folder, ignore_errors=True)


class WorkerError(Exception):
    """The contained interpreter did not start, or did not answer."""


class Worker:
    """One contained interpreter, used by one thread at a time.

    Args:
        level: How it is contained.
        limits: What a program may use.
        starter: A thread that starts it and lives on: an interpreter ends with the thread that has
            started it, as it has to with the process. None for the calling thread.
    """

    def __init__(
        self, level: Level, limits: SandboxLimits, starter: Executor | None = None
    ) -> None:
        self.level = level
        self.limits = limits
        self._starter = starter
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: Path | None = None

    def start(self) -> None:
        """Start the interpreter.

        Raises:
            WorkerError: It cannot be started at this level here.
        """
        if self._starter is None:
            self._start()
        else:
            self._starter.submit(self._start).result()

    def _start(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix=f"{_FOLDER_PREFIX}-{os.getpid()}-"))
        try:
            command = contained_command(self.level, self.limits, self._folder)
            self._process = subprocess.Popen(
                command.arguments,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=command.environment,
                cwd="/",
                bufsize=0,
                start_new_session=True,
            )
            self._receive(_START_SECONDS)
        except (OSError, WorkerError) as error:
            said = self._last_words()
            self.stop()
            raise WorkerError(said or str(error)) from error

    def _last_words(self) -> str:
        """Return the last line that a process which did not start has written."""
        if self._process is None or self._process.poll() is None or not self._process.stderr:
            return ""
        lines = self._process.stderr.read(10_000).decode("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else ""

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Run a program, and return what came back.

        Raises:
            WorkerError: The interpreter ended or fell silent; the next request starts another.
        """
        data = json.dumps(request).encode()
        try:
            self._send(_FRAME.pack(len(data)) + data)
            answer = self._receive(self.limits.seconds_per_program + _GRACE_SECONDS)
        except (OSError, ValueError, WorkerError) as error:
            self.stop()
            raise WorkerError(str(error)) from error
        if not answer["is_clean"]:
            self.stop()
        return answer

    def _send(self, data: bytes) -> None:
        """Send a request, to another interpreter where this one has ended since the last."""
        for is_last in (False, True):
            if self._process is None or self._process.poll() is not None:
                self.stop()
                self.start()
            assert self._process is not None and self._process.stdin is not None
            view = memoryview(data)
            try:
                while view:
                    view = view[self._process.stdin.write(view) :]
                return
            except BrokenPipeError:
                self.stop()
                if is_last:
                    raise

    def _receive(self, seconds: float) -> dict[str, Any]:
        deadline = time.monotonic() + seconds
        size = _FRAME.unpack(self._read(_FRAME.size, deadline))[0]
        if size > 4 * self.limits.max_output_bytes + 100_000:
            raise WorkerError("the sandbox answered with too much")
        answer = json.loads(self._read(size, deadline))
        assert isinstance(answer, dict)
        return answer

    def _read(self, size: int, deadline: float) -> bytes:
        assert self._process is not None and self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        parts: list[bytes] = []
        while size:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([descriptor], [], [], left)[0]:
                raise WorkerError("the sandbox does not answer")
            part = os.read(descriptor, min(size, 1 << 16))
            if not part:
                raise WorkerError("the sandbox has ended")
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def stop(self) -> None:
        """End the interpreter and everything in it, and remove its folder."""
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            self._await_silence(process)
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    with contextlib.suppress(OSError):
                        stream.close()
        folder, self._folder = self._folder, None
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)

    @staticmethod
    def _await_silence(process: subprocess.Popen[bytes]) -> None:
        """Wait until nobody holds the other end: what is inside ends just after what is outside."""
        assert process.stdout is not None
        deadline = time.monotonic() + _GRACE_SECONDS
        descriptor = process.stdout.fileno()
        while (left := deadline - time.monotonic()) > 0:
            if not select.select([descriptor], [], [], left)[0] or not os.read(descriptor, 1 << 16):
                return
