"""The parent's handle on one isolated, warm interpreter."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import tempfile
import time
from dataclasses import asdict, dataclass
from importlib import resources
from typing import Any

from ift_lightning.evaluation.sandbox.grading import Reply
from ift_lightning.evaluation.sandbox.inside import wire
from ift_lightning.evaluation.sandbox.inside.lockdown import Settings

_MODULES = (
    "wire",
    "kernel",
    "landlock",
    "seccomp",
    "lockdown",
    "candidate",
    "remote",
    "judge",
    "root",
    "zygote",
    "main",
)
BOOTSTRAP = """
import json, os, sys, types
def read(size):
    data = b""
    while len(data) < size:
        part = os.read(0, size - len(data))
        if not part:
            sys.exit(1)
        data += part
    return data
start = json.loads(read(int.from_bytes(read(4), "big")))
package = types.ModuleType("sandbox_inside")
package.__path__ = []
sys.modules["sandbox_inside"] = package
for name, source in start.pop("modules"):
    module = types.ModuleType("sandbox_inside." + name)
    module.__package__ = "sandbox_inside"
    sys.modules[module.__name__] = module
    setattr(package, name, module)
    exec(compile(source, name + ".py", "exec"), module.__dict__)
package.main.main(start)
"""
ENVIRONMENT = {
    "HOME": "/tmp",
    "LANG": "C.UTF-8",
    "PATH": "/usr/bin:/bin",
    "TMPDIR": "/tmp",
    "PYTHONHASHSEED": "0",  # the order of a set must not decide a test
    "MALLOC_ARENA_MAX": "1",  # threads would each reserve address space, which the limit counts
    "OMP_NUM_THREADS": "1",
    "TZ": "UTC",
}
_START_SECONDS = 30.0
_GRACE_SECONDS = 15.0  # beyond a program's own time, for a machine under load


class WorkerError(RuntimeError):
    """The sandbox itself failed, not the program in it."""


@dataclass(frozen=True)
class Launch:
    """How to start an isolated interpreter."""

    command: tuple[str, ...]
    settings: Settings
    privileged: bool  # started by root with its capabilities
    build: bool  # the interpreter makes its own namespaces


class Worker:
    """One isolated interpreter. Belongs to the thread that starts it, and dies with it."""

    def __init__(self, launch: Launch) -> None:
        self.launch = launch
        self._process: subprocess.Popen[bytes] | None = None
        self._errors: Any = None

    def start(self) -> None:
        """Start the interpreter and wait until it is warm. WorkerError where it does not."""
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed by stop()
        try:
            self._process = subprocess.Popen(
                self.launch.command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                bufsize=0,
                env=ENVIRONMENT,
                cwd="/",
                start_new_session=True,
            )
        except OSError as error:
            raise WorkerError(f"{self.launch.command[0]}: {error}") from error
        modules = [(name, _source_of(name)) for name in _MODULES]
        start = {
            "modules": modules,
            "settings": asdict(self.launch.settings),
            "privileged": self.launch.privileged,
            "build": self.launch.build,
        }
        self._send(wire.frame(json.dumps(start).encode()))
        answer = self._read_frame(time.monotonic() + _START_SECONDS)
        if answer != b"ready":
            self._fail(answer.decode(errors="replace"))

    def run(
        self, code: str, steps: list[Any], task: dict[str, Any] | None, seconds: float
    ) -> Reply:
        """Run one program.

        Args:
            code: Its source.
            steps: Per test in data form, its calls.
            task: For the judge; None where every test is data.
            seconds: That it may take.

        Raises:
            WorkerError: The sandbox failed. The worker is stopped.
        """
        if self._process is None:
            self.start()
        request = {"code": code, "steps": steps, "seconds": seconds}
        judge = wire.dump(task) if task else b""
        self._send(wire.frame(wire.dump(request)) + wire.frame(judge))
        deadline = time.monotonic() + seconds + _GRACE_SECONDS
        facts, candidate_bytes, judge_bytes = (self._read_frame(deadline) for _ in range(3))
        facts_json = json.loads(facts)
        report = json.loads(facts_json["report"]) if facts_json["report"] else {}
        stopped = facts_json["stopped"]
        if "error" in report or not (report or stopped):
            self._fail(report.get("error", "the keeper of the program is gone"))
        return Reply(
            candidate_status=report.get("candidate"),
            stopped=stopped,
            seconds=facts_json["seconds"],
            candidate_bytes=candidate_bytes,
            judge_bytes=judge_bytes,
        )

    def _send(self, data: bytes) -> None:
        assert self._process is not None and self._process.stdin is not None
        try:
            wire.write_all(self._process.stdin.fileno(), data)
        except OSError as error:
            self._fail(str(error))

    def _read_frame(self, deadline: float) -> bytes:
        length = int.from_bytes(self._read(4, deadline), "big")
        return self._read(length, deadline)

    def _read(self, num_bytes: int, deadline: float) -> bytes:
        assert self._process is not None and self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        data = bytearray()
        while len(data) < num_bytes:
            left = deadline - time.monotonic()
            if left <= 0 or not poll.poll(1000 * left):
                self._fail("it does not answer")
            part = os.read(descriptor, num_bytes - len(data))
            if not part:
                self._fail("it ended")
            data += part
        return bytes(data)

    def _fail(self, reason: str) -> None:
        self._errors.seek(0)
        said = self._errors.read(2000).decode(errors="replace").strip().splitlines()
        self.stop()
        raise WorkerError(f"{reason}. {said[-1]}" if said else reason)

    def stop(self) -> None:
        """End the interpreter and everything in it."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    with contextlib.suppress(OSError):
                        stream.close()
        if self._errors is not None:
            self._errors.close()
            self._errors = None


def _source_of(name: str) -> str:
    package = resources.files("ift_lightning.evaluation.sandbox.inside")
    return package.joinpath(f"{name}.py").read_text(encoding="utf-8")
