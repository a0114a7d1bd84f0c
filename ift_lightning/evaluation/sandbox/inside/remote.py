"""Calls from the judge to the code under test, which is another process.

The judge's side shows functions and objects of the code under test as stand-ins. Plain data crosses
as plain data; anything else stays where it is and is named by a number. A stand-in is equal to
itself only, so an ``__eq__`` of the code under test never decides a test.
"""

from __future__ import annotations

import builtins
import operator
from collections.abc import Callable, Iterator
from typing import Any

from . import wire
from .candidate import CodeUnderTest, describe

_MAX_MESSAGE_BYTES = 64 << 20
RAISED_BY_CANDIDATE = "raised by the code under test"


class CandidateGoneError(BaseException):
    """The code under test ended before the judge was done with it."""


class CandidateError(Exception):
    """The code under test raised something that is no built-in exception."""


# --- in the process of the code under test ---------------------------------------------------


class _Service:
    """Answers the judge's questions one by one."""

    def __init__(self, program: CodeUnderTest, questions: int, answers: int) -> None:
        self.program = program
        self.questions = questions
        self.answers = answers
        self.objects: list[Any] = []
        self.operations: dict[str, Callable[..., Any]] = {
            "call": lambda function, *args, **kwargs: function(*args, **kwargs),
            "getattr": getattr,
            "getitem": operator.getitem,
            "setitem": operator.setitem,
            "contains": operator.contains,
            "len": len,
            "iter": iter,
            "next": next,
            "str": str,
            "bool": bool,
        }

    def encode(self, value: Any) -> Any:
        return wire.encode(value, self._keep)

    def _keep(self, value: Any) -> Any:
        self.objects.append(value)
        return {"o": [*wire.opaque_marker(value)["o"], len(self.objects) - 1]}

    def decode(self, encoded: Any) -> Any:
        return wire.decode(encoded, self._special)

    def _special(self, tag: str, body: Any) -> Any:
        if tag == "handle":
            return self.objects[body]
        if tag == "callback":
            return lambda *args: self._call_back(body, args)
        raise wire.WireError(tag)

    def _call_back(self, number: int, arguments: tuple[Any, ...]) -> Any:
        wire.write_all(
            self.answers,
            wire.frame(wire.dump({"callback": number, "args": self.encode(list(arguments))})),
        )
        reply = wire.load(wire.read_frame(self.questions))
        if "raised" in reply:
            raise RuntimeError(reply["raised"])
        return self.decode(reply["value"])

    def answer(self, question: dict[str, Any]) -> dict[str, Any]:
        arguments: list[Any] = []
        try:
            if question["operation"] == "global":
                value = self.program.namespace[question["name"]]
                return {"value": self.encode(value), "callable": callable(value)}
            arguments = [self.decode(value) for value in question["args"]]
            keywords = {key: self.decode(value) for key, value in question["kwargs"].items()}
            value = self.operations[question["operation"]](*arguments, **keywords)
            reply = {"value": self.encode(value)}
        except BaseException as error:
            reply = {"raised": describe(error)}
        # A test may look at an argument that the call changed.
        reply["args"] = [
            self.encode(value) if isinstance(value, list | dict | set | bytearray) else None
            for value in arguments
        ]
        return reply


def serve(program: CodeUnderTest, questions: int, answers: int) -> None:
    """Answer until the judge closes its end."""
    service = _Service(program, questions, answers)
    write_all, dump, frame = wire.write_all, wire.dump, wire.frame
    while True:
        try:
            question = wire.load(wire.read_frame(questions))
        except EOFError:
            return
        write_all(answers, frame(dump(service.answer(question))))


# --- in the judge's process ------------------------------------------------------------------


class Connection:
    """The judge's end: asks, and builds what comes back out of plain data and stand-ins."""

    def __init__(self, questions: int, answers: int) -> None:
        self.questions = questions
        self.answers = answers
        self._callbacks: list[Callable[..., Any]] = []

    def _exchange(self, message: dict[str, Any]) -> dict[str, Any]:
        try:
            wire.write_all(self.questions, wire.frame(wire.dump(message)))
            length = int.from_bytes(wire.read_exactly(self.answers, 4), "big")
            if length > _MAX_MESSAGE_BYTES:
                raise CandidateGoneError("the code under test sent an endless answer")
            reply = wire.load(wire.read_exactly(self.answers, length))
        except (EOFError, OSError, wire.WireError):
            raise CandidateGoneError("the code under test ended early") from None
        if not isinstance(reply, dict):
            raise CandidateGoneError("the code under test sent no answer")
        return reply

    def ask(self, operation: str, *arguments: Any, **keywords: Any) -> Any:
        """Return the value of an operation on the code under test, or raise what it raised."""
        reply = self._exchange(
            {
                "operation": operation,
                "args": [self.encode(value) for value in arguments],
                "kwargs": {key: self.encode(value) for key, value in keywords.items()},
            }
        )
        while "callback" in reply:
            reply = self._exchange(self._call_back(reply))
        changed = reply.get("args")
        if isinstance(changed, list):
            for original, encoded in zip(arguments, changed, strict=False):
                self._copy_back(original, encoded)
        return self._value(reply)

    def look_up(self, name: str) -> Any:
        """Return a global of the code under test; NameError where it has none."""
        reply = self._exchange({"operation": "global", "name": name})
        if "raised" in reply:
            raise NameError(f"name {name!r} is not defined")
        return self._value(reply)

    def _value(self, reply: dict[str, Any]) -> Any:
        if "raised" in reply:
            raise _as_exception(reply["raised"])
        return self.decode(reply.get("value"))

    def _call_back(self, reply: dict[str, Any]) -> dict[str, Any]:
        try:
            function = self._callbacks[reply["callback"]]
            return {"value": self.encode(function(*self.decode(reply["args"])))}
        except Exception as error:
            return {"raised": f"{type(error).__name__}: {error}"[:300]}

    def _copy_back(self, original: Any, encoded: Any) -> None:
        if encoded is None or type(original) not in (list, dict, set, bytearray):
            return
        value = self.decode(encoded)
        if type(value) is not type(original):
            return
        if isinstance(original, list | bytearray):
            original[:] = value
        else:
            original.clear()
            original.update(value)

    def encode(self, value: Any) -> Any:
        return wire.encode(value, self._stand_in)

    def _stand_in(self, value: Any) -> Any:
        if isinstance(value, RemoteObject):
            return {"handle": object.__getattribute__(value, "_handle")}
        if callable(value):
            self._callbacks.append(value)
            return {"callback": len(self._callbacks) - 1}
        raise TypeError(f"a test cannot hand a {type(value).__name__} to the code under test")

    def decode(self, encoded: Any) -> Any:
        return wire.decode(encoded, self._special)

    def _special(self, tag: str, body: Any) -> Any:
        if tag == "o" and len(body) == 3:
            return RemoteObject(self, int(body[2]), str(body[0]))
        if tag == "o":
            return wire.Opaque(str(body[0]), bool(body[1]))
        raise wire.WireError(tag)


def _as_exception(raised: Any) -> Exception:
    """Return the exception to raise in the test for what the code under test raised."""
    if not isinstance(raised, dict):
        return _noted(CandidateError("unknown error"))
    message = str(raised.get("message", ""))
    for name in raised.get("kinds", ()):
        kind = getattr(builtins, str(name), None)
        if isinstance(kind, type) and issubclass(kind, Exception) and kind is not Exception:
            try:
                return _noted(kind(message))
            except TypeError:  # UnicodeDecodeError and its like want more
                continue
    return _noted(CandidateError(f"{raised.get('type', 'error')}: {message}"))


def _noted(error: Exception) -> Exception:
    error.add_note(RAISED_BY_CANDIDATE)
    return error


class RemoteObject:
    """Stands for a function or an object of the code under test."""

    def __init__(self, connection: Connection, handle: int, type_name: str) -> None:
        for name, value in (
            ("_connection", connection),
            ("_handle", handle),
            ("_type_name", type_name),
        ):
            object.__setattr__(self, name, value)

    def _ask(self, operation: str, *arguments: Any, **keywords: Any) -> Any:
        return self._connection.ask(operation, self, *arguments, **keywords)

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        return self._ask("call", *arguments, **keywords)

    def __getattr__(self, name: str) -> Any:
        return self._ask("getattr", name)

    def __getitem__(self, key: Any) -> Any:
        return self._ask("getitem", key)

    def __setitem__(self, key: Any, value: Any) -> None:
        self._ask("setitem", key, value)

    def __contains__(self, item: Any) -> bool:
        return bool(self._ask("contains", item))

    def __len__(self) -> int:
        return int(self._ask("len"))

    def __iter__(self) -> Iterator[Any]:
        iterator = self._ask("iter")
        if not isinstance(iterator, RemoteObject):
            yield from iterator
            return
        while True:
            try:
                item = iterator._ask("next")
            except StopIteration:
                return
            yield item

    def __bool__(self) -> bool:
        return bool(self._ask("bool"))

    def __str__(self) -> str:
        return str(self._ask("str"))

    def __repr__(self) -> str:
        return f"<{self._type_name} object>"
