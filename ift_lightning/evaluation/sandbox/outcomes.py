"""What goes into the sandbox, and what comes out."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


class Verdict(enum.StrEnum):
    """How a program ended, seen from its tests; the first test that is not passed decides."""

    PASS = "pass"
    FAIL = "fail"  # it ran, and returned another value
    TIMEOUT = "timeout"
    MEMORY = "memory"
    CRASH = "crash"  # ended by a signal
    NO_CODE = "no_code"  # nothing to run, or nothing that parses
    ERROR = "error"  # an exception, or it ended before it answered


@dataclass(frozen=True, slots=True)
class Program:
    """A program and its tests.

    Args:
        id: Handed back with the outcome.
        code: Python source.
        entry_point: Function that the tests call.
        tests: Dictionaries of ``args``, ``kwargs`` and ``expected``; or assert statements; or one
            string with statements, such as HumanEval's ``check(candidate)``. Without any, the
            program is only executed.
    """

    id: str
    code: str
    entry_point: str = ""
    tests: Sequence[Any] | str = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a program.

    Args:
        id: The program's.
        verdict: See :class:`Verdict`.
        executed: Whether it ran through all its tests without an exception or a limit.
        num_passed: Tests passed.
        num_tests: Tests there are.
        detail: The first test that was not passed, or the error; at most a few hundred characters.
        judged_in_child: Whether tests were statements that could not be turned into data. They run
            inside the sandbox, in a process apart from the program's.
        seconds: Wall time inside the sandbox.
    """

    id: str
    verdict: Verdict
    executed: bool
    num_passed: int
    num_tests: int
    detail: str = ""
    judged_in_child: bool = False
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class SandboxLimits:
    """What one program may use.

    Args:
        seconds_per_program: Wall time for the program and all its tests; CPU time likewise.
        memory_bytes: Address space.
        max_output_bytes: Returned values, encoded. What a program prints goes nowhere.
        max_processes: Processes and threads, the program's own among them.
        disk_bytes: Files in its scratch folder, which is held in memory.
        absolute_tolerance: Within which floats are equal; tests that are assert statements compare
            as they are written.
        relative_tolerance: The same, as a share of the expected value.
    """

    seconds_per_program: float = 5.0
    memory_bytes: int = 512 << 20
    max_output_bytes: int = 4 << 20
    max_processes: int = 8
    disk_bytes: int = 32 << 20
    absolute_tolerance: float = 1e-9
    relative_tolerance: float = 1e-6
