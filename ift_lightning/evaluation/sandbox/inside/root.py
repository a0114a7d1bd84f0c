"""A root folder with nothing but an interpreter in it, and a fresh view of it for each program."""

from __future__ import annotations

import contextlib
import ctypes
import os
import struct

from . import kernel

SYSTEM_FOLDERS = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64")
DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom", "/dev/random")
LINKER_CACHE = "/etc/ld.so.cache"
INNER_UID = 1000  # of an ordinary user's sandbox, in its own user namespace

_SYS_MOUNT_SETATTR = 442
_AT_RECURSIVE = 0x8000
_AT_FDCWD = -100
_ATTR_RDONLY, _ATTR_NOSUID, _ATTR_NODEV = 1, 2, 4
_KEPT_FLAGS = 2 | 4 | 8 | 1024 | 2048  # nosuid, nodev, noexec, noatime, nodiratime
_ST_RELATIME, _MS_RELATIME = 4096, 1 << 21


def enter_namespaces(*, privileged: bool) -> None:
    """Move into new namespaces; the caller's process stays outside and waits.

    Args:
        privileged: Root with its capabilities. Otherwise a user namespace gives them.
    """
    flags = (
        kernel.CLONE_NEWNS
        | kernel.CLONE_NEWPID
        | kernel.CLONE_NEWNET
        | kernel.CLONE_NEWIPC
        | kernel.CLONE_NEWUTS
    )
    uid, gid = os.getuid(), os.getgid()
    if privileged:
        kernel.unshare(flags)
    else:
        kernel.unshare(flags | kernel.CLONE_NEWUSER)
        for name, text in (
            ("setgroups", "deny"),
            ("uid_map", f"{INNER_UID} {uid} 1"),
            ("gid_map", f"{INNER_UID} {gid} 1"),
        ):
            _write(f"/proc/self/{name}", text)
    child = os.fork()
    if child:
        kernel.die_with_parent()
        null = os.open("/dev/null", os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        status = os.waitpid(child, 0)[1]
        os._exit(0 if status == 0 else 1)
    kernel.die_with_parent()


def _write(path: str, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


def build(readable: tuple[str, ...]) -> None:
    """Make a root of read-only binds, move into it, and let go of the host's.

    Args:
        readable: Folders of the interpreter, besides the system's own.
    """
    kernel.mount("none", "/", "", kernel.MS_REC | kernel.MS_PRIVATE)
    sources, links = [], []
    for path in (*SYSTEM_FOLDERS, LINKER_CACHE, *readable):
        if os.path.islink(path) and path in SYSTEM_FOLDERS:
            links.append((path, os.readlink(path)))
        elif os.path.exists(path):
            sources.append((path, os.open(path, os.O_PATH), True))
    sources += [(path, os.open(path, os.O_PATH), False) for path in DEVICES]
    new_root = "/tmp" if os.path.isdir("/tmp") else "/mnt"
    kernel.mount("root", new_root, "tmpfs", kernel.MS_NOSUID, "size=1m,mode=755")
    for folder in ("proc", "tmp", "dev/shm"):
        os.makedirs(f"{new_root}/{folder}", 0o755)
    for path, target in links:
        os.symlink(target, new_root + path)
    for path, descriptor, read_only in sources:
        _bind(f"/proc/self/fd/{descriptor}", new_root + path, read_only=read_only)
        os.close(descriptor)
    flags = kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC
    kernel.mount("proc", f"{new_root}/proc", "proc", flags)
    kernel.pivot_root(new_root)
    flags = kernel.MS_REMOUNT | kernel.MS_BIND | kernel.MS_RDONLY | kernel.MS_NOSUID
    kernel.mount("root", "/", "", flags)


def _bind(source: str, target: str, *, read_only: bool) -> None:
    if os.path.isdir(source):
        os.makedirs(target, 0o755, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), 0o755, exist_ok=True)
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o644))
    kernel.mount(source, target, "", kernel.MS_BIND | kernel.MS_REC)
    if not read_only:
        return
    attributes = struct.pack("=QQQQ", _ATTR_RDONLY | _ATTR_NOSUID | _ATTR_NODEV, 0, 0, 0)
    try:
        kernel.syscall(
            _SYS_MOUNT_SETATTR,
            ctypes.c_int(_AT_FDCWD),
            target.encode(),
            ctypes.c_uint(_AT_RECURSIVE),
            attributes,
            ctypes.c_size_t(len(attributes)),
        )
    except OSError:  # before Linux 5.12: the mount itself, without what is mounted below it
        present = os.statvfs(target).f_flag
        flags = present & _KEPT_FLAGS | (_MS_RELATIME if present & _ST_RELATIME else 0)
        kernel.mount("none", target, "", flags | kernel.MS_REMOUNT | kernel.MS_BIND | 1)


def make_private_view(disk_bytes: int, uid: int) -> None:
    """Give the calling process, in a new mount namespace, an empty /tmp and nothing in /proc.

    Args:
        disk_bytes: What /tmp and /dev/shm hold together.
        uid: Owner of /tmp.
    """
    kernel.mount("none", "/", "", kernel.MS_REC | kernel.MS_PRIVATE)
    flags = kernel.MS_NOSUID | kernel.MS_NODEV
    options = f"size={disk_bytes},nr_inodes=1024,mode=700,uid={uid},gid={uid}"
    kernel.mount("tmp", "/tmp", "tmpfs", flags, options)
    kernel.mount("/tmp", "/dev/shm", "", kernel.MS_BIND)
    kernel.mount("none", "/proc", "tmpfs", kernel.MS_RDONLY | flags, "size=4k,nr_inodes=2,mode=555")
    with contextlib.suppress(OSError):
        os.chdir("/tmp")
