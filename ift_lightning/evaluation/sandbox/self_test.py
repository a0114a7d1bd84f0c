"""Attempts to break out, made once at the start: a level that lets one succeed is not used."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import tempfile
from pathlib import Path
from typing import Any

from ift_lightning.evaluation.sandbox.inside import wire
from ift_lightning.evaluation.sandbox.levels import LevelUnavailableError, prepare
from ift_lightning.evaluation.sandbox.types import Level, SandboxLimits
from ift_lightning.evaluation.sandbox.worker import Worker, WorkerError

_SECONDS = 20.0
_ATTEMPTS = """
import os, time

def works(value):
    import json, xml.dom.minidom  # from the disk, only now
    return json.dumps([value])

def connect(port):
    import socket
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).sendall(b"out")
    except OSError:
        return False
    return True

def read(path):
    try:
        with open(path, "rb") as file:
            return file.read().decode()
    except OSError:
        return None

def write(folder, name):
    try:
        with open(os.path.join(folder, name), "w") as file:
            file.write("out")
    except OSError:
        return False
    return True

def signal(pid):
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True

def start(number):
    import threading
    num_started, children = 1, []
    for _ in range(number):
        try:
            pid = os.fork()
        except OSError:
            break
        if pid == 0:
            time.sleep(60)
            os._exit(0)
        num_started += 1
    stop = threading.Event()
    for _ in range(number):
        try:
            threading.Thread(target=stop.wait, daemon=True).start()
        except RuntimeError:
            break
        num_started += 1
    stop.set()
    return num_started

def user():
    return list(os.getresuid())

def allocate(size):
    try:
        return len(bytearray(size))
    except MemoryError:
        return 0
"""


def check_level(level: Level, limits: SandboxLimits) -> None:
    """Try to break out of a level.

    Raises:
        LevelUnavailableError: It cannot be started, or something got out; the message says what.
    """
    for is_last in (False, True):
        worker = Worker(prepare(level, limits, worker=0))
        try:
            _try_out(level, limits, worker)
            return
        except WorkerError as error:  # on a busy machine the first may run out of time
            if is_last:
                raise LevelUnavailableError(str(error)) from error
        finally:
            worker.stop()


def _try_out(level: Level, limits: SandboxLimits, worker: Worker) -> None:
    if level is Level.RLIMITS:  # everything else would get out
        _run(worker, [("works", [1])])
        return
    with tempfile.TemporaryDirectory() as folder, _listener() as listener:
        _attempt(level, limits, worker, Path(folder), listener)


def _run(worker: Worker, calls: list[tuple[str, list[Any]]]) -> list[Any]:
    """Return what each call returned, the first of which has to be the harmless one."""
    steps = [[[function, [wire.encode(arg) for arg in args], {}]] for function, args in calls]
    got = _values(worker.run(_ATTEMPTS, steps, None, _SECONDS).candidate_bytes, len(calls))
    if not got or got[0] != "[1]":
        raise LevelUnavailableError("a harmless program does not run in it")
    return got


def _listener() -> contextlib.closing[socket.socket]:
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    return contextlib.closing(listener)


def _attempt(
    level: Level, limits: SandboxLimits, worker: Worker, folder: Path, listener: socket.socket
) -> None:
    folder.chmod(0o777)
    secret = folder / "secret"
    secret.write_text(secrets.token_hex(8))
    secret.chmod(0o644)
    name = f"ift-lightning-{secrets.token_hex(8)}"
    targets = [str(folder), "/dev/shm", "/var/tmp", "/usr", "/"]
    calls: list[tuple[str, list[Any]]] = [
        ("works", [1]),
        ("connect", [listener.getsockname()[1]]),
        ("read", [str(secret)]),
        ("read", [f"/proc/{os.getpid()}/environ"]),
        ("signal", [os.getpid()]),
        ("user", []),
        ("allocate", [limits.memory_bytes * 2]),
        *(("write", [target, name]) for target in targets),
        ("start", [limits.max_processes + 20]),
    ]
    _, connected, text, environment, signalled, users, allocated, *written, started = _run(
        worker, calls
    )
    files = [path for target in targets if (path := Path(target, name)).exists()]
    for path in files:
        path.unlink()
    leaks = {
        "a program reached the network": connected or _was_reached(listener),
        "a program read a file of ours": text is not None or environment is not None,
        "a program wrote a file of ours": files or written[0] or any(written[2:]),
        "a program could send us a signal": signalled,
        "a program ran as root": level is not Level.LANDLOCK_SECCOMP and 0 in users,
        "the memory limit does not hold": allocated != 0,
        "the limit on processes does not hold": started > limits.max_processes + 1,
    }
    for what, happened in leaks.items():
        if happened:
            raise LevelUnavailableError(what)


def _values(data: bytes, num_calls: int) -> list[Any]:
    """Return what each call returned; empty where one did not return."""
    messages = [wire.load(payload) for payload in wire.split_frames(data)][2:]
    if len(messages) != num_calls or any("value" not in message for message in messages):
        return []
    return [wire.decode(message["value"][0]) for message in messages]


def _was_reached(listener: socket.socket) -> bool:
    try:
        listener.accept()[0].close()
    except BlockingIOError:
        return False
    return True
