"""How an isolated interpreter is started at each level."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from ift_lightning.evaluation.sandbox.inside import kernel, lockdown, root, seccomp
from ift_lightning.evaluation.sandbox.inside.lockdown import Settings
from ift_lightning.evaluation.sandbox.types import Level, SandboxLimits
from ift_lightning.evaluation.sandbox.worker import BOOTSTRAP, Launch

_UIDS_PER_WORKER = 2  # one for the code, one for its judge
_WIDE_RANGE = 1 << 31
_FIRST_UID = 1_800_000_000  # far from the users that a machine has
# Of the sandbox's own processes, those that run under the same user as a program, in its namespace:
# interpreter, keeper and judge, and the process that waits outside where we made the namespaces.
_OWN_TASKS = {Level.BUBBLEWRAP: 3, Level.NAMESPACES: 4}


class LevelUnavailableError(RuntimeError):
    """A level cannot be used on this machine; the message says why."""


def interpreter() -> str:
    """Return the interpreter itself, without the virtual environment around it."""
    return os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)


def interpreter_folders() -> tuple[str, ...]:
    """Return the folders of the interpreter and its standard library outside of /usr."""
    folders = {sys.base_prefix, sys.base_exec_prefix, str(Path(interpreter()).parent.parent)}
    real = sorted(map(os.path.realpath, folders))
    outside = [path for path in real if path != "/" and not _is_below(path, "/usr")]
    return tuple(
        path for path in outside if not any(path != up and _is_below(path, up) for up in outside)
    )


def _is_below(path: str, folder: str) -> bool:
    return Path(path).is_relative_to(folder)


def is_privileged() -> bool:
    """Whether this process is root with what it takes to make namespaces and change its user."""
    return (
        os.geteuid() == 0
        and kernel.has_capabilities(kernel.CAP_SYS_ADMIN, kernel.CAP_SETUID, kernel.CAP_SETGID)
        and _unprivileged_uid(0) is not None
    )


def _unprivileged_uid(worker: int) -> int | None:
    """Return a user that exists nowhere else, or None where root may not become another."""
    lines = Path("/proc/self/uid_map").read_text(encoding="ascii").splitlines()
    ranges = [tuple(map(int, line.split())) for line in lines]
    start, _, count = max(ranges, key=lambda entry: entry[2])
    if count < 1 << 10:
        return None
    if start + count > _WIDE_RANGE:
        return _FIRST_UID + os.getpid() % 100_000 * 1000 + worker % 500 * _UIDS_PER_WORKER
    half = count // 2
    return start + half + (os.getpid() * 64 + worker) * _UIDS_PER_WORKER % (half - 1)


def _is_world_readable(folders: tuple[str, ...]) -> bool:
    return all(
        path.stat().st_mode & 0o001
        for folder in map(Path, folders)
        for path in (folder, *folder.parents)
    )


def prepare(level: Level, limits: SandboxLimits, worker: int) -> Launch:
    """Return how to start worker number ``worker`` at a level.

    Raises:
        LevelUnavailableError: This machine lacks what the level needs.
    """
    if sys.platform != "linux":
        raise LevelUnavailableError("it needs Linux")
    privileged = is_privileged()
    has_namespaces = level in (Level.BUBBLEWRAP, Level.NAMESPACES)
    folders = interpreter_folders()
    uid = _unprivileged_uid(worker) if privileged else None
    if not has_namespaces:
        can_change = os.geteuid() == 0 and kernel.has_capabilities(
            kernel.CAP_SETUID, kernel.CAP_SETGID
        )
        readable = _is_world_readable(folders)
        uid = _unprivileged_uid(worker) if can_change and readable else None
    isolation = {
        Level.LANDLOCK_SECCOMP: lockdown.LANDLOCK,
        Level.RLIMITS: lockdown.RLIMITS,
    }.get(level, lockdown.NAMESPACES)
    if level is Level.LANDLOCK_SECCOMP and not seccomp.is_supported():
        raise LevelUnavailableError(f"no system call filter for {kernel.machine()}")
    settings = Settings(
        isolation=isolation,
        uid=uid,
        memory_bytes=limits.memory_bytes,
        disk_bytes=limits.disk_bytes,
        max_processes=limits.max_processes,
        max_output_bytes=limits.max_output_bytes,
        num_own_tasks=0 if uid is not None else _OWN_TASKS.get(level, 0),
        readable=_readable(level, folders),
    )
    python = (interpreter(), "-s", "-S", "-P", "-B", "-c", BOOTSTRAP)
    wrapper = _bubblewrap(folders, privileged=privileged) if level is Level.BUBBLEWRAP else ()
    return Launch((*wrapper, *python), settings, privileged, build=level is Level.NAMESPACES)


def _readable(level: Level, folders: tuple[str, ...]) -> tuple[str, ...]:
    if level is Level.LANDLOCK_SECCOMP:
        return (*root.SYSTEM_FOLDERS, root.LINKER_CACHE, *folders)
    return folders


def _bubblewrap(folders: tuple[str, ...], *, privileged: bool) -> tuple[str, ...]:
    program = shutil.which("bwrap")
    if program is None:
        raise LevelUnavailableError("bubblewrap is not installed (bwrap is not on the PATH)")
    options = ["--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts"]
    options += ["--unshare-cgroup-try", "--die-with-parent", "--new-session", "--as-pid-1"]
    if not privileged:
        inner = str(root.INNER_UID)
        options += ["--unshare-user", "--uid", inner, "--gid", inner, "--cap-add", "ALL"]
    for path in root.SYSTEM_FOLDERS:
        if Path(path).is_symlink():
            options += ["--symlink", str(Path(path).readlink()), path]
        elif Path(path).is_dir():
            options += ["--ro-bind", path, path]
    for folder in ("/etc", "/dev", "/dev/shm", "/tmp"):
        options += ["--dir", folder]
    options += ["--ro-bind-try", root.LINKER_CACHE, root.LINKER_CACHE]
    for path in folders:
        # The folders on the way would otherwise be closed to everyone but root.
        for parent in reversed(Path(path).parents[:-1]):
            options += ["--dir", str(parent)]
        options += ["--ro-bind", path, path]
    for path in root.DEVICES:
        options += ["--dev-bind", path, path]
    options += ["--proc", "/proc", "--remount-ro", "/"]
    return (program, *options, "--")
