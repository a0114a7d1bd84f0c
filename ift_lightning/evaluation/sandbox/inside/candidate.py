"""The process that runs the code under test; it knows inputs, and no expected value."""

from __future__ import annotations

import ast
import json
import random
import sys
import types
from collections.abc import Callable
from functools import partial
from os import _exit
from typing import Any

from . import wire

_MAX_MESSAGE = 300


def describe(error: BaseException) -> dict[str, Any]:
    """Return the type, the built-in ancestors and the bounded message of an exception."""
    kinds = [kind.__name__[:100] for kind in type(error).__mro__]
    try:
        message = str(error)[:_MAX_MESSAGE]
    except BaseException:
        message = ""
    return {"type": kinds[0], "kinds": kinds[:10], "message": message}


class CodeUnderTest:
    """A namespace that a program was executed in."""

    def __init__(self) -> None:
        module = types.ModuleType("candidate")
        # dataclasses, pickle and typing look their module up by name.
        sys.modules["candidate"] = module
        self.namespace = module.__dict__

    def load(self, program: types.CodeType) -> None:
        exec(program, self.namespace)

    def call(self, name: str, arguments: list[Any], keywords: dict[str, Any]) -> Any:
        if name not in self.namespace:
            raise NameError(f"the code defines no {name!r}")
        return self.namespace[name](*arguments, **keywords)


def parse(source: str) -> types.CodeType | str:
    """Return a source ready to run, or why there is nothing in it that could be run.

    Done in here, because a source can be made to crash a parser.
    """
    try:
        tree = ast.parse(source)
        statements = [
            node
            for node in tree.body
            if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
        ]
        if not statements:
            return "there is nothing but comments and strings"
        return compile(tree, "candidate.py", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, OverflowError) as error:
        return f"{type(error).__name__}: {error}"[:_MAX_MESSAGE]
    except (RecursionError, MemoryError):
        return "nested too deeply"


def run(
    request: dict[str, Any],
    results: int,
    max_output_bytes: int,
    judge: tuple[int, int] | None,
) -> None:
    """Load a program, make the calls of its tests, then serve the judge, if there is one.

    Args:
        request: ``code``, and ``steps``: per test a list of (name, arguments, keywords).
        results: Descriptor that one frame per test goes to.
        max_output_bytes: Of all values; more than that in one frame is not even sent.
        judge: Descriptors to read the judge's questions from, and to answer them on.
    """
    # Bound now, so that a program which replaces them later still gets its results through.
    dumps, write_all, frame = json.dumps, wire.write_all, wire.frame

    def send(message: Any) -> None:
        payload = dumps(message, separators=(",", ":")).encode("ascii")
        if len(payload) > max_output_bytes:
            text = f"the result takes more than {max_output_bytes} bytes"
            error = {"type": "OutputLimit", "kinds": [], "message": text}
            payload = dumps({"raised": error}).encode("ascii")
        write_all(results, frame(payload))

    attempt = _make_attempt(send)
    send({"ready": True})
    random.seed(0)
    parsed = parse(request["code"])
    if isinstance(parsed, str):
        send({"no_code": parsed})
        return
    program = CodeUnderTest()
    if not attempt(partial(program.load, parsed)):
        return
    for calls in request["steps"]:
        attempt(partial(_make_calls, program, calls))
    if judge is not None:
        from . import remote

        remote.serve(program, *judge)


def _make_calls(program: CodeUnderTest, calls: list[list[Any]]) -> list[Any]:
    """Return the encoded value of each call; every call gets arguments of its own."""
    values = []
    for name, arguments, keywords in calls:
        fresh_keywords = {key: wire.decode(value) for key, value in keywords.items()}
        value = program.call(name, [wire.decode(value) for value in arguments], fresh_keywords)
        values.append(wire.encode(value))
    return values


def _make_attempt(send: Callable[[Any], None]) -> Callable[[Callable[[], Any]], bool]:
    def attempt(action: Callable[[], Any]) -> bool:
        """Send the action's value, or what it raised; return whether it raised nothing."""
        try:
            send({"value": action()})
            return True
        except BaseException as error:  # SystemExit and MemoryError are results, too
            raised = describe(error)
        send({"raised": raised})
        return False

    return attempt


def leave() -> None:
    """End the process without running anything that the program left behind."""
    _exit(0)
