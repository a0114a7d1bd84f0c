"""Lets a contained interpreter try to get out, before it is trusted with anything."""

from __future__ import annotations

import json
import os
import secrets
import socket
import tempfile
from pathlib import Path
from typing import Any

from ift_lightning.evaluation.sandbox.inside import wire
from ift_lightning.evaluation.sandbox.worker import Worker, WorkerError

_ATTEMPTS = """
import os, signal, socket, time

def attempt(action):
    try:
        return action()
    except BaseException:
        return None

def connect(port):
    with socket.socket() as one:
        one.settimeout(2)
        one.connect(("127.0.0.1", port))
    return True

def read(path):
    with open(path) as stream:
        return stream.read()

def write(path):
    with open(path, "w") as stream:
        stream.write("x")
    return True

def start(number):
    started = 0
    for _ in range(number):
        try:
            process = os.fork()
        except OSError:
            break
        if process == 0:
            time.sleep(30)
            os._exit(0)
        started += 1
    return started

def try_all(port, secret, folder, parent, number):
    return {
        "network": attempt(lambda: connect(port)),
        "secret": attempt(lambda: read(secret)),
        "write": attempt(lambda: write(folder + "/written")),
        "signal": attempt(lambda: os.kill(parent, 0) or True),
        "processes": attempt(lambda: start(number)),
        "root": os.getuid() == 0 or os.geteuid() == 0,
    }
"""
_MEMORY = "def fill(size):\n    return len(bytearray(size))\n"


def find_leaks(worker: Worker) -> list[str]:
    """Return what a program could do that it must not be able to do; empty where all holds.

    Args:
        worker: A started one.

    Raises:
        WorkerError: It does not answer.
    """
    limits = worker.limits
    secret = secrets.token_hex(16)
    with tempfile.TemporaryDirectory() as name, socket.create_server(("127.0.0.1", 0)) as server:
        folder = Path(name)
        folder.chmod(0o777)
        path = folder / "secret"
        path.write_text(secret, encoding="ascii")
        path.chmod(0o644)
        arguments = [server.getsockname()[1], str(path), name, os.getpid()]
        found = _ask(worker, _ATTEMPTS, "try_all", [*arguments, limits.max_processes + 20])
        leaks = []
        if not isinstance(found, dict):
            raise WorkerError("the self-test did not come back")
        if found["network"]:
            leaks.append("a connection to 127.0.0.1 is let through")
        if found["secret"] == secret:
            leaks.append("files of the host can be read")
        if found["write"] or (folder / "written").exists():
            leaks.append("files of the host can be written")
        if found["signal"]:
            leaks.append("signals reach this process")
        if (found["processes"] or 0) > limits.max_processes:
            leaks.append(f"{found['processes']} processes could be started")
        if found["root"]:
            leaks.append("programs run as root")
    if _ask(worker, _MEMORY, "fill", [2 * limits.memory_bytes]) is not None:
        leaks.append("memory is not limited")
    return leaks


def _ask(worker: Worker, code: str, name: str, arguments: list[Any]) -> Any:
    """Return what a function returns; None where it does not."""
    calls = [[wire.encode(arguments), wire.encode({})]]
    answer = worker.ask({"code": code, "entry": name, "calls": calls, "judge": None})
    frames = [json.loads(line) for line in answer["frames"]]
    if len(frames) != 2 or frames[1][0] != "value":
        return None
    return wire.decode(frames[1][1])
