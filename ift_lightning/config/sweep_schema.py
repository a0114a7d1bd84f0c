"""How a sweep goes (``sweep.*``); a single run reads nothing of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum


class Unfair(Enum):
    """What to do where arms differ in more than what is compared."""

    warn = "warn"  # say so, and go on; the report says it, too
    error = "error"  # stop before anything is trained
    ignore = "ignore"  # do not look


@dataclass
class SweepConfig:
    """What happens around the points of a sweep."""

    resume: bool = True  # keep finished points of hydra.sweep.dir, go on with interrupted ones
    reuse: list[str] = field(default_factory=list)  # folders whose finished runs may stand in
    unfair: Unfair = Unfair.warn
    table: bool = True  # one table of all points; what a point prints goes to its output.log
    table_seconds: float = 30.0  # between progress lines where the output is no terminal
    report: bool = True  # compare the points once they are done
