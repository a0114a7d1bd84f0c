"""The dataclass behind ``conf/sandbox/``."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from omegaconf import MISSING


class SandboxLevel(Enum):
    """How strongly generated programs are contained."""

    auto = "auto"  # the strongest that holds on this machine
    bubblewrap = "bubblewrap"
    namespaces = "namespaces"
    landlock_seccomp = "landlock_seccomp"
    rlimits = "rlimits"  # contains nothing hostile; needs allow_weak


@dataclass
class SandboxConfig:
    """What one generated program may use, and how it is contained."""

    name: str = MISSING
    level: SandboxLevel = SandboxLevel.auto
    allow_weak: bool = False  # whether limits alone are enough, where nothing stronger holds
    num_workers: int | None = None  # programs at a time; None: the number of cores
    seconds_per_program: float = 5.0  # for the program and all its tests
    memory_mib: int = 512
    max_processes: int = 8  # and threads
    disk_mib: int = 32
    max_output_mib: int = 4  # returned values
    absolute_tolerance: float = 1e-9  # of floats, for tests that are data
    relative_tolerance: float = 1e-6
