"""Runs test statements in a process of their own, with stand-ins for the program's functions.

The program's process never holds the descriptor that verdicts are written to, nor can it read or
trace this process: it can only answer calls.
"""

import builtins
import json
import os

import wire


class CandidateError(Exception):
    """The program raised an exception of a type of its own."""


class CandidateGone(BaseException):
    """The program's process ended."""


class Candidate:
    """The other end of :func:`candidate.serve`."""

    def __init__(self, connection):
        self.stream = connection.makefile("rwb")
        self.last_error = None
        self.problem = None

    def receive(self):
        line = self.stream.readline()
        if not line:
            raise CandidateGone
        frame = json.loads(line)
        if type(frame) is not list or not frame or type(frame[0]) is not str:
            raise CandidateGone
        return frame

    def call(self, name, args, kwargs):
        """Return what the program's function returns, or raise what it raises."""
        request = [name, wire.encode(list(args)), wire.encode(kwargs)]
        try:
            self.stream.write(json.dumps(request).encode() + b"\n")
            self.stream.flush()
        except OSError:
            raise CandidateGone from None
        frame = self.receive()
        if frame[0] == "value":
            return wire.decode(frame[1])
        if frame[0] == "memory":
            self.problem = ["memory"]
            raise CandidateGone
        name, text = (
            (str(part) for part in frame[1:3]) if frame[0] == "error" else ("NameError", "")
        )
        kind = getattr(builtins, name, None)
        is_exception = isinstance(kind, type) and issubclass(kind, Exception)
        try:
            error = kind(text) if is_exception else CandidateError(f"{name}: {text}")
        except TypeError:  # such as UnicodeDecodeError, which takes five arguments
            error = CandidateError(f"{name}: {text}")
        self.last_error = error
        raise error


def _stand_in(candidate, name):
    def function(*args, **kwargs):
        return candidate.call(name, args, kwargs)

    function.__name__ = name
    return function


def run(request, connection, writer):
    """Run the statements and write a frame for each."""

    def send(frame):
        data = json.dumps(frame).encode() + b"\n"
        while data:
            data = data[os.write(writer, data) :]

    candidate = Candidate(connection)
    try:
        frame = candidate.receive()
    except CandidateGone:
        return
    send(frame[:3])
    if frame[0] != "loaded":
        return
    names = [name for name in frame[1] if type(name) is str]
    namespace = {name: _stand_in(candidate, name) for name in names}
    namespace["__name__"] = "tests"
    if request["entry"]:
        namespace["candidate"] = _stand_in(candidate, request["entry"])
        namespace.setdefault(request["entry"], namespace["candidate"])
    for statement in request["judge"]:
        candidate.last_error = None
        try:
            exec(compile(statement, "<tests>", "exec"), namespace)
        except AssertionError as error:
            send(["fail", str(error)[:300]])
        except CandidateGone:
            send(candidate.problem or ["gone"])
            return
        except MemoryError:
            send(["memory"])
        except BaseException as error:
            kind = "error" if error is candidate.last_error else "test_error"
            send([kind, type(error).__name__, str(error)[:300]])
        else:
            send(["pass"])
