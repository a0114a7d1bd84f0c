"""What a process gives up before it runs code that is not ours."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
from dataclasses import dataclass
from typing import Any

from . import kernel, landlock, seccomp

NAMESPACES, LANDLOCK, RLIMITS = "namespaces", "landlock", "rlimits"
MAX_OPEN_FILES = 64
_STACK_BYTES = 8 << 20


@dataclass(frozen=True)
class Settings:
    """How a program is held; comes from the parent once, at the start of the zygote."""

    isolation: str  # NAMESPACES, LANDLOCK or RLIMITS
    uid: int | None  # to drop to; None: stay (inside a user namespace, or without the right to)
    memory_bytes: int
    disk_bytes: int
    max_processes: int
    max_output_bytes: int
    num_own_tasks: int  # of the sandbox itself, that count against the program's user
    readable: tuple[str, ...]  # for Landlock
    interpreter_bytes: int = 0  # address space before the program starts
    interpreter_resident_bytes: int = 0

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Settings:
        return cls(**{**values, "readable": tuple(values["readable"])})


def count_tasks_of_user(uid: int) -> int:
    """Return how many threads of all processes run under ``uid``."""
    num_tasks = 0
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if os.stat(entry.path).st_uid == uid:
                    num_tasks += len(os.listdir(f"{entry.path}/task"))
    return num_tasks


def _limit_resources(settings: Settings, seconds: float) -> None:
    own_tasks = settings.num_own_tasks
    if settings.isolation != NAMESPACES and settings.uid is None:
        own_tasks = count_tasks_of_user(os.getuid())
    address_space = settings.memory_bytes + settings.interpreter_bytes
    cpu_seconds = int(seconds) + 2  # a second line of defence: the clock on the wall is the first
    for kind, soft, hard in (
        (resource.RLIMIT_AS, address_space, address_space),
        (resource.RLIMIT_CPU, cpu_seconds, cpu_seconds + 1),
        (resource.RLIMIT_FSIZE, settings.disk_bytes, settings.disk_bytes),
        (resource.RLIMIT_NPROC, settings.max_processes + own_tasks, None),
        (resource.RLIMIT_NOFILE, MAX_OPEN_FILES, MAX_OPEN_FILES),
        (resource.RLIMIT_STACK, _STACK_BYTES, _STACK_BYTES),
        (resource.RLIMIT_CORE, 0, 0),
        (resource.RLIMIT_MEMLOCK, 0, 0),
        (resource.RLIMIT_MSGQUEUE, 0, 0),
    ):
        wanted = soft if hard is None else hard
        ceiling = resource.getrlimit(kind)[1]
        if ceiling != resource.RLIM_INFINITY:
            soft, wanted = min(soft, ceiling), min(wanted, ceiling)
        resource.setrlimit(kind, (soft, wanted))


def _drop_user(uid: int) -> None:
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)


def lock_down(settings: Settings, seconds: float, uid: int | None) -> None:
    """Limit this process and take every privilege from it. There is no way back."""
    os.setsid()
    os.umask(0o077)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    _limit_resources(settings, seconds)
    if uid is not None:
        _drop_user(uid)
    if settings.isolation != RLIMITS:
        kernel.drop_capabilities()
    # After the change of user, which clears it.
    parent = os.getppid()
    kernel.die_with_parent()
    if os.getppid() != parent:
        os._exit(1)
    kernel.forbid_new_privileges()
    kernel.forbid_inspection()
    if settings.isolation == LANDLOCK:
        landlock.restrict(settings.readable, ("/dev/null", "/dev/zero", "/dev/urandom"))
    if settings.isolation == NAMESPACES and seccomp.is_supported():
        seccomp.install(seccomp.build_filter(single_process=False))
    elif settings.isolation == LANDLOCK:
        # RLIMIT_NPROC does not bind root, so root gets no thread at all.
        program = seccomp.build_filter(single_process=True, allow_threads=os.getuid() != 0)
        seccomp.install(program)


def keep_descriptors(*kept: int) -> None:
    """Close every descriptor but 0, 1, 2 and those ``kept``."""
    last = 2
    for descriptor in sorted(set(kept) - {0, 1, 2}):
        os.closerange(last + 1, descriptor)
        last = descriptor
    os.closerange(last + 1, _highest_descriptor())


def _highest_descriptor() -> int:
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return soft if 0 < soft < 1 << 16 else 1 << 16


def silence() -> None:
    """Point standard input, output and error at nothing: prints are free, and go nowhere."""
    null = os.open("/dev/null", os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    if null > 2:
        os.close(null)
