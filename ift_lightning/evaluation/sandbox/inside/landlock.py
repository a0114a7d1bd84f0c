"""Landlock: a process gives up every file but a few, without any privilege.

Source: https://docs.kernel.org/userspace-api/landlock.html
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable

from . import kernel

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same on every architecture
_CREATE_RULESET_VERSION = 1
_RULE_PATH_BENEATH = 1

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1, 2, 4, 8
# Highest file access right of each version, as the number of rights that there are.
_NUM_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
_NETWORK_RIGHTS = 3  # bind and connect over TCP, since version 4
_SCOPES = 3  # abstract sockets and signals, since version 6


class _Ruleset(ctypes.Structure):
    _fields_ = (
        ("handled_access_fs", ctypes.c_uint64),
        ("handled_access_net", ctypes.c_uint64),
        ("scoped", ctypes.c_uint64),
    )


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


def version() -> int:
    """Return the kernel's Landlock version; 0 where it has none."""
    flags = ctypes.c_uint32(_CREATE_RULESET_VERSION)
    try:
        return kernel.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), flags)
    except OSError:
        return 0


def restrict(readable: Iterable[str], devices: Iterable[str]) -> None:
    """Leave this process the ``readable`` folders and files, and reading and writing ``devices``.

    Needs no_new_privs. Raises OSError where the kernel has no Landlock.
    """
    number = version()
    if number == 0:
        raise OSError("this kernel has no Landlock")
    rights = (1 << _NUM_RIGHTS.get(number, 16)) - 1
    ruleset = _Ruleset(rights, _NETWORK_RIGHTS if number >= 4 else 0, _SCOPES if number >= 6 else 0)
    size = 24 if number >= 6 else 16 if number >= 4 else 8
    descriptor = kernel.syscall(
        _CREATE_RULESET, ctypes.byref(ruleset), ctypes.c_size_t(size), ctypes.c_uint32(0)
    )
    try:
        for path in readable:
            access = _EXECUTE | _READ_FILE | (_READ_DIR if os.path.isdir(path) else 0)
            _allow(descriptor, path, access)
        for path in devices:
            _allow(descriptor, path, _READ_FILE | _WRITE_FILE)
        kernel.syscall(_RESTRICT_SELF, ctypes.c_int(descriptor), ctypes.c_uint32(0))
    finally:
        os.close(descriptor)


def _allow(ruleset: int, path: str, access: int) -> None:
    try:
        parent = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        rule = _PathBeneath(access, parent)
        kernel.syscall(
            _ADD_RULE,
            ctypes.c_int(ruleset),
            ctypes.c_int(_RULE_PATH_BENEATH),
            ctypes.byref(rule),
            ctypes.c_uint32(0),
        )
    finally:
        os.close(parent)
