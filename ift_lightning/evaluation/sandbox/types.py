"""Programs, the limits they run under, and what came of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Verdict(StrEnum):
    """What came of a program and its tests."""

    PASS = "pass"  # every test passed; without tests: it ran to its end
    FAIL = "fail"  # it ran, and a test saw a wrong value
    TIMEOUT = "timeout"  # stopped when its time was up
    MEMORY = "memory"  # stopped by the memory limit, or ended by a MemoryError
    CRASH = "crash"  # ended by a signal, such as a segmentation fault
    NO_CODE = "no_code"  # nothing to run, or nothing that parses
    ERROR = "error"  # it raised, left early, or sent back more than is allowed


class Level(StrEnum):
    """How programs are kept in, from the strongest to the weakest; see ``docs/sandbox.md``."""

    BUBBLEWRAP = "bubblewrap"
    NAMESPACES = "namespaces"
    LANDLOCK_SECCOMP = "landlock_seccomp"
    RLIMITS = "rlimits"


@dataclass(frozen=True)
class Program:
    """Code that somebody else wrote, and the tests that judge it.

    ``tests`` is a list of ``{"args": [...], "kwargs": {...}, "expected": ...}`` dictionaries and
    test sources (``assert f(1) == 2``), or one string: assert statements, or a ``check`` function
    in HumanEval's form. Empty: the code is only run.
    """

    id: str
    code: str
    entry_point: str = ""  # the function that dictionaries and ``candidate`` mean
    tests: Sequence[Any] | str = ()


@dataclass(frozen=True)
class Outcome:
    """What came of a program."""

    id: str
    verdict: Verdict
    executed: bool  # it loaded, and every call came back, without an error
    num_passed: int
    num_tests: int
    detail: str  # the first thing that went wrong, on one line; empty for a pass
    judged_in_child: bool  # a test was code that ran inside the sandbox, not data compared here
    seconds: float  # on the clock on the wall, from the fork to the end


@dataclass(frozen=True)
class Tolerance:
    """How far apart two floats may be and still be equal."""

    absolute: float = 0.0
    relative: float = 0.0


@dataclass(frozen=True)
class SandboxLimits:
    """Bounds for one program."""

    seconds_per_program: float = 5.0  # on the clock on the wall, all tests together
    memory_bytes: int = 512 << 20  # beyond the bare interpreter's
    max_output_bytes: int = 4 << 20  # of all values that it sends back; prints go nowhere
    max_processes: int = 8  # processes and threads together, the program's first one included
    disk_bytes: int = 32 << 20  # in /tmp and /dev/shm together, held in memory
    absolute_tolerance: float = 1e-9  # within which floats are equal
    relative_tolerance: float = 1e-6  # the same, as a share of the larger one

    @property
    def tolerance(self) -> Tolerance:
        return Tolerance(self.absolute_tolerance, self.relative_tolerance)

    def __post_init__(self) -> None:
        for name, smallest in (
            ("seconds_per_program", 0.01),
            ("memory_bytes", 16 << 20),
            ("max_output_bytes", 1 << 10),
            ("max_processes", 1),
            ("disk_bytes", 4096),
            ("absolute_tolerance", 0.0),
            ("relative_tolerance", 0.0),
        ):
            if not getattr(self, name) >= smallest:
                value = getattr(self, name)
                raise ValueError(f"sandbox.{name} is {value}; it has to be at least {smallest}")


MAX_DETAIL = 300  # characters of Outcome.detail
