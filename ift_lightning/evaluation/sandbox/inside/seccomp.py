"""A system call filter: what no test of a function needs, and what would reach outside.

The namespaces are the wall; this keeps a candidate away from the kernel's more delicate parts.
Where there are no namespaces (`single_process`), it also keeps the candidate a single process that
cannot signal another one. Written as classic BPF, so that no library is needed.
Source: https://docs.kernel.org/userspace-api/seccomp_filter.html
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct

from . import kernel

# Numbers on x86_64 and aarch64; None where the architecture has no such call.
_NEVER: dict[str, tuple[int | None, int | None]] = {
    # other processes
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "kcmp": (312, 272),
    "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438),
    "pidfd_send_signal": (424, 424),
    "setpriority": (141, 140),
    "sched_setaffinity": (203, 122),
    "sched_setscheduler": (144, 119),
    "sched_setparam": (142, 118),
    "sched_setattr": (314, 274),
    "ioprio_set": (251, 30),
    "migrate_pages": (256, 238),
    "move_pages": (279, 239),
    # namespaces and mounts
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "move_mount": (429, 429),
    "open_tree": (428, 428),
    "mount_setattr": (442, 442),
    "chroot": (161, 51),
    "unshare": (272, 97),
    "setns": (308, 268),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "fanotify_init": (300, 262),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    # memory that no limit counts
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "shmget": (29, 194),
    "shmat": (30, 196),
    "shmctl": (31, 195),
    "msgget": (68, 186),
    "msgsnd": (69, 189),
    "msgrcv": (70, 188),
    "semget": (64, 190),
    "semop": (65, 193),
    "semtimedop": (220, 192),
    "mq_open": (240, 180),
    "mbind": (237, 235),
    "set_mempolicy": (238, 237),
    # the kernel itself
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "adjtimex": (159, 171),
    "clock_adjtime": (305, 266),
    "acct": (163, 89),
    "syslog": (103, 116),
    "iopl": (172, None),
    "ioperm": (173, None),
    "modify_ldt": (154, None),
    "personality": (135, 92),
    "vhangup": (153, 58),
    "lookup_dcookie": (212, 18),
}

# Landlock rules on opening files leave these alone, and there is no namespace to keep them in.
_NEVER_WITHOUT_NAMESPACES: dict[str, tuple[int | None, int | None]] = {
    "fork": (57, None),
    "vfork": (58, None),
    "execve": (59, 221),
    "execveat": (322, 281),
    "socket": (41, 198),
    "bind": (49, 200),
    "connect": (42, 203),
    "tkill": (200, 130),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "chmod": (90, None),
    "fchmod": (91, 52),
    "fchmodat": (268, 53),
    "fchmodat2": (452, 452),
    "chown": (92, None),
    "fchown": (93, 55),
    "lchown": (94, None),
    "fchownat": (260, 54),
    "utime": (132, None),
    "utimes": (235, None),
    "futimesat": (261, None),
    "utimensat": (280, 88),
    "setxattr": (188, 5),
    "lsetxattr": (189, 6),
    "fsetxattr": (190, 7),
    "setxattrat": (463, 463),
    "removexattr": (197, 14),
    "lremovexattr": (198, 15),
    "fremovexattr": (199, 16),
    "removexattrat": (466, 466),
    "truncate": (76, 45),
}

_CLONE, _CLONE3 = (56, 220), (435, 435)
_SOCKET, _KILL, _TGKILL = (41, 198), (62, 129), (234, 131)
_PRCTL, _PRLIMIT64 = (157, 167), (302, 261)

_ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}  # column, AUDIT_ARCH

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _KILL_PROCESS, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_NUMBER_OFFSET, _ARCH_OFFSET, _ARGUMENT_OFFSET = 0, 4, 16
_X32_BIT = 0x40000000
_PR_SET_PDEATHSIG, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 1, 22, 2
_CLONE_NEW_NAMESPACE = 0x7E020080  # every CLONE_NEW* flag
_CLONE_THREAD = 0x00010000
_AF_UNIX = 1


def is_supported() -> bool:
    return kernel.machine() in _ARCHITECTURES


def _instruction(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value & 0xFFFFFFFF)


def _refuse(error: int = errno.EPERM) -> bytes:
    return _instruction(_RETURN, _ERRNO | error)


def _when_called(number: int, then: list[bytes]) -> list[bytes]:
    """Run ``then`` for one system call; it must end by returning, or by reloading the number."""
    return [_instruction(_EQUAL, number, 0, len(then)), *then]


def _argument_rule(number: int, index: int, test: bytes) -> list[bytes]:
    """Refuse one call where ``test`` jumps over the next instruction; otherwise go on."""
    then = [
        _instruction(_LOAD, _ARGUMENT_OFFSET + 8 * index),
        test,
        _refuse(),
        _instruction(_LOAD, _NUMBER_OFFSET),
    ]
    return _when_called(number, then)


def build_filter(*, single_process: bool, allow_threads: bool = True) -> bytes:
    """Return the BPF program for this machine and this process.

    Args:
        single_process: No other process can be made, signalled or talked to.
        allow_threads: Where ``single_process``, whether threads can be made all the same.
    """
    column, architecture = _ARCHITECTURES[kernel.machine()]
    program = [
        _instruction(_LOAD, _ARCH_OFFSET),
        _instruction(_EQUAL, architecture, 1, 0),
        _instruction(_RETURN, _KILL_PROCESS),
        _instruction(_LOAD, _NUMBER_OFFSET),
        _instruction(_AT_LEAST, _X32_BIT, 0, 1),
        _instruction(_RETURN, _KILL_PROCESS),
    ]
    never = {**_NEVER, **(_NEVER_WITHOUT_NAMESPACES if single_process else {})}
    for numbers in never.values():
        number = numbers[column]
        if number is not None:
            program += _when_called(number, [_refuse()])
    # Its flags are behind a pointer, so it cannot be looked into; the C library then uses clone.
    program += _when_called(_CLONE3[column], [_refuse(errno.ENOSYS)])
    clone, prctl = _CLONE[column], _PRCTL[column]
    program += _argument_rule(clone, 0, _instruction(_ANY_BIT, _CLONE_NEW_NAMESPACE, 0, 1))
    program += _argument_rule(_PRLIMIT64[column], 0, _instruction(_EQUAL, 0, 1, 0))
    program += _argument_rule(prctl, 0, _instruction(_EQUAL, _PR_SET_PDEATHSIG, 0, 1))
    if single_process:
        if allow_threads:
            program += _argument_rule(clone, 0, _instruction(_ANY_BIT, _CLONE_THREAD, 1, 0))
        else:
            program += _when_called(clone, [_refuse()])
        for number in (_KILL[column], _TGKILL[column]):
            program += _argument_rule(number, 0, _instruction(_EQUAL, os.getpid(), 1, 0))
    else:
        program += _argument_rule(_SOCKET[column], 0, _instruction(_EQUAL, _AF_UNIX, 1, 0))
    program.append(_instruction(_RETURN, _ALLOW))
    return b"".join(program)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def install(program: bytes) -> None:
    """Put the filter on this process and all that it makes. Needs no_new_privs."""
    holder = _Program(len(program) // 8, program)
    kernel.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.addressof(holder))
