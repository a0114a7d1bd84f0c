"""The process that runs test code which could not be turned into data.

It calls the code under test in another process (see ``remote``), and its verdict goes out on a
descriptor that the other process never had, signed with a word that it never saw.
"""

from __future__ import annotations

import builtins
import random
import traceback
from typing import Any

from . import wire
from .candidate import describe
from .remote import RAISED_BY_CANDIDATE, CandidateGoneError, Connection

_TEST_FILE = "test.py"


class _TestNamespace(dict[str, Any]):
    """Globals of the test code; what it does not define is looked up in the code under test."""

    def __init__(self, connection: Connection, entry_point: str) -> None:
        super().__init__(__name__="test", __builtins__=builtins)
        self._connection = connection
        if entry_point:
            try:
                entry = connection.look_up(entry_point)
            except NameError:
                return  # the tests say so where they call it
            self[entry_point] = entry
            self["candidate"] = entry

    def __missing__(self, name: str) -> Any:
        if hasattr(builtins, name):
            return getattr(builtins, name)
        return self._connection.look_up(name)


def run(task: dict[str, Any], verdicts: int, connection: Connection) -> None:
    """Run the sources of ``task`` one by one, and send a signed verdict for each.

    Args:
        task: ``word`` to sign with, ``entry_point``, and ``sources``.
        verdicts: Descriptor that one frame per source goes to.
        connection: To the code under test.
    """
    for index, source in enumerate(task["sources"]):
        random.seed(0)
        verdict: dict[str, Any] = {"word": task["word"], "index": index, "raised": None}
        try:
            namespace = _TestNamespace(connection, task["entry_point"])
            exec(compile(source, _TEST_FILE, "exec", dont_inherit=True), namespace)
        except CandidateGoneError:
            return
        except BaseException as error:
            verdict["raised"] = _describe(error, source)
        wire.write_all(verdicts, wire.frame(wire.dump(verdict)))


def _describe(error: BaseException, source: str) -> dict[str, Any]:
    raised = describe(error)
    raised["by_candidate"] = RAISED_BY_CANDIDATE in getattr(error, "__notes__", ())
    lines = source.splitlines()
    for entry in reversed(traceback.extract_tb(error.__traceback__)):
        if entry.filename == _TEST_FILE and entry.lineno and entry.lineno <= len(lines):
            raised["line"] = lines[entry.lineno - 1].strip()[:300]
            break
    return raised
