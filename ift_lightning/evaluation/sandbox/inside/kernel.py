"""The few system calls that Python 3.11 has no name for, through the C library."""

from __future__ import annotations

import ctypes
import os
import signal

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 32, 4096, 16384, 1 << 18
MNT_DETACH = 2

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_CAPBSET_DROP = 24
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_CAPABILITY_VERSION_3 = 0x20080522
_NUM_CAPABILITIES = 64
CAP_SETGID, CAP_SETUID, CAP_SYS_ADMIN = 6, 7, 21

_SYS_CLONE = {"x86_64": 56, "aarch64": 220}
_SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}

_libc = ctypes.CDLL(None, use_errno=True)
_libc_with_gil = ctypes.PyDLL(None, use_errno=True)  # for a clone: nothing may run in between


def machine() -> str:
    return os.uname().machine


def _check(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def syscall(number: int, *arguments: object) -> int:
    """Return the result of a system call; raise OSError with its errno."""
    return _check(_libc.syscall(ctypes.c_long(number), *arguments), f"system call {number}")


def prctl(option: int, *arguments: int) -> int:
    values = [ctypes.c_ulong(argument) for argument in (*arguments, 0, 0, 0, 0)[:4]]
    return _check(_libc.prctl(ctypes.c_int(option), *values), f"prctl {option}")


def unshare(flags: int) -> None:
    _check(_libc.unshare(ctypes.c_int(flags)), "unshare")


def mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    arguments = (source.encode(), target.encode(), kind.encode())
    data = options.encode() or None
    result = _libc.mount(*arguments, ctypes.c_ulong(flags), data)
    _check(result, f"mount of {kind or source} on {target}")


def pivot_root(new_root: str) -> None:
    """Make ``new_root`` the root, and let go of the old one."""
    os.chdir(new_root)
    syscall(_SYS_PIVOT_ROOT[machine()], b".", b".")
    _check(_libc.umount2(b".", ctypes.c_int(MNT_DETACH)), "umount of the old root")
    os.chdir("/")


def fork_into(namespaces: int) -> int:
    """Fork; the child is the first process of new ``namespaces``. Returns 0 in the child."""
    if not namespaces:
        return os.fork()
    python = ctypes.pythonapi
    python.PyOS_BeforeFork()
    pid = _libc_with_gil.syscall(
        ctypes.c_long(_SYS_CLONE[machine()]),
        ctypes.c_ulong(namespaces | signal.SIGCHLD),
        *(ctypes.c_void_p(None),) * 4,
    )
    if pid == 0:
        python.PyOS_AfterFork_Child()
        return 0
    number = ctypes.get_errno()
    python.PyOS_AfterFork_Parent()
    if pid < 0:
        raise OSError(number, f"clone: {os.strerror(number)}")
    return pid


def die_with_parent() -> None:
    prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def adopt_orphans() -> None:
    prctl(_PR_SET_CHILD_SUBREAPER, 1)


def forbid_new_privileges() -> None:
    prctl(_PR_SET_NO_NEW_PRIVS, 1)


def forbid_inspection() -> None:
    """Make the process's memory unreadable to others of the same user."""
    prctl(_PR_SET_DUMPABLE, 0)


class _CapabilityHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _CapabilitySets(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


def drop_capabilities() -> None:
    """Give up every capability for good: bounding, ambient, permitted, effective, inheritable."""
    for capability in range(_NUM_CAPABILITIES):
        try:
            prctl(_PR_CAPBSET_DROP, capability)
        except OSError:
            break  # past the kernel's last one, or there never was a right to drop them
    prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    header = _CapabilityHeader(_CAPABILITY_VERSION_3, 0)
    sets = (_CapabilitySets * 2)()
    _check(_libc.capset(ctypes.byref(header), ctypes.byref(sets)), "capset")


def has_capabilities(*wanted: int) -> bool:
    """Return whether this process has all of the ``wanted`` capabilities now."""
    header = _CapabilityHeader(_CAPABILITY_VERSION_3, 0)
    sets = (_CapabilitySets * 2)()
    _check(_libc.capget(ctypes.byref(header), ctypes.byref(sets)), "capget")
    return all(sets[number // 32].effective >> (number % 32) & 1 for number in wanted)
