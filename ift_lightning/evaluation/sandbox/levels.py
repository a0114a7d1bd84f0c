"""How strongly programs are contained, and the command that starts a contained interpreter."""

from __future__ import annotations

import enum
import json
import os
import random
import shutil
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ift_lightning.evaluation.sandbox.outcomes import SandboxLimits

INSIDE = Path(__file__).resolve().parent / "inside"
_SYSTEM_PATHS = ("/usr", "/lib", "/lib64", "/bin")
_DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom")
# Above the ids of people and services, and outside the ranges that are given to containers.
_USERS = range(61184, 65519)


class Level(enum.StrEnum):
    """From the strongest to the weakest."""

    BUBBLEWRAP = "bubblewrap"  # namespaces made by bwrap, and system calls refused
    NAMESPACES = "namespaces"  # the same, made by ourselves
    LANDLOCK_SECCOMP = "landlock_seccomp"  # files and system calls refused, no namespaces
    RLIMITS = "rlimits"  # time, memory and file sizes alone: contains nothing that is hostile


@dataclass(frozen=True, slots=True)
class ContainedCommand:
    """What starts a zygote.

    Args:
        arguments: Command and arguments.
        environment: The whole environment.
        folder: A private folder of the host that belongs to it; removed afterwards.
    """

    arguments: list[str]
    environment: dict[str, str]
    folder: Path


def contained_command(level: Level, limits: SandboxLimits, folder: Path) -> ContainedCommand:
    """Return the command that starts a zygote at a level.

    Args:
        level: How it is contained.
        limits: What a program may use.
        folder: An empty private folder.

    Raises:
        OSError: The level's program is not installed.
    """
    is_root = os.geteuid() == 0
    # Limits on processes do not bind root, so root becomes somebody that nobody else is.
    user = random.choice(_USERS) if is_root else None
    interpreter = str(Path(sys.executable).resolve())
    has_namespace = level in (Level.BUBBLEWRAP, Level.NAMESPACES)
    scratch = "/tmp" if has_namespace else str(folder / "scratch")
    readable = _readable_paths(interpreter)
    settings: dict[str, Any] = {
        "limits": asdict(limits),
        "pid_namespace": has_namespace,
        "scratch": scratch,
        "seccomp": level is not Level.RLIMITS,
        "landlock": None,
        # In the namespaces that we make ourselves this has happened before.
        "become": None if level is Level.NAMESPACES else user,
    }
    if not has_namespace:
        Path(scratch).mkdir()
        if user is not None:
            folder.chmod(0o711)
            os.chown(scratch, user, user)
    if level is Level.LANDLOCK_SECCOMP:
        settings["landlock"] = [
            [*readable, "/dev/urandom"],
            [scratch, "/dev/null"],
        ]
    python = [interpreter, "-s", "-S", "-B"]
    zygote = [str(INSIDE / "zygote.py"), json.dumps(settings)]
    if level is Level.BUBBLEWRAP:
        arguments = [*_bubblewrap(readable, limits, is_root=is_root), *python, *zygote]
    elif level is Level.NAMESPACES:
        root = folder / "root"
        root.mkdir()
        outer = {
            "readable": readable,
            "scratch": str(root),
            "disk_bytes": limits.disk_bytes,
            "user": user,
        }
        arguments = [*python, str(INSIDE / "namespaces.py"), json.dumps(outer), *zygote]
    else:
        arguments = [*python, *zygote]
    # A fixed hash seed, so that a program that goes through a set does the same every time.
    environment = {"PYTHONHASHSEED": "0", "LANG": "C.UTF-8", "HOME": scratch, "TMPDIR": scratch}
    return ContainedCommand(arguments, environment, folder)


def _readable_paths(interpreter: str) -> list[str]:
    """Return the folders that an interpreter needs: system libraries, its own, and ours."""
    paths = [*_SYSTEM_PATHS, sys.base_prefix, sys.base_exec_prefix]
    paths += [str(Path(interpreter).parent), str(INSIDE), "/etc/ld.so.cache"]
    found: list[str] = []
    for path in dict.fromkeys(paths):
        # What lies inside a folder that is shown already is shown with it.
        inside = any(Path(path).is_relative_to(other) for other in found if other != path)
        if Path(path).exists() and not inside:
            found.append(path)
    return found


def _bubblewrap(readable: list[str], limits: SandboxLimits, *, is_root: bool) -> list[str]:
    program = shutil.which("bwrap")
    if program is None:
        raise FileNotFoundError("bwrap is not installed (Debian package: bubblewrap)")
    arguments = [program, "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts"]
    arguments += ["--unshare-cgroup-try", "--die-with-parent", "--new-session", "--as-pid-1"]
    if not is_root:
        arguments += ["--unshare-user", "--cap-drop", "ALL"]
    # Folders that bwrap makes on the way to a file could not be entered by anybody but root.
    parents = {parent for path in (*readable, *_DEVICES) for parent in Path(path).parents}
    for parent in sorted(parents - {Path("/")}):
        if not any(parent.is_relative_to(path) for path in readable):
            arguments += ["--perms", "0755", "--dir", str(parent)]
    for path in readable:
        if Path(path).is_symlink():  # such as /lib, which is part of /usr
            arguments += ["--symlink", str(Path(path).readlink()), path]
        else:
            arguments += ["--ro-bind", path, path]
    for device in _DEVICES:
        arguments += ["--dev-bind", device, device]
    arguments += ["--perms", "1777", "--size", str(limits.disk_bytes), "--tmpfs", "/tmp"]
    return [*arguments, "--remount-ro", "/", "--chdir", "/", "--"]
