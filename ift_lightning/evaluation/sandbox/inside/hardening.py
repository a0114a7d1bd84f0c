"""What a process gives up before it runs code that nobody has read: resources, files, system calls.

System call numbers and structures are those of Linux on x86-64 and AArch64.
"""

import ctypes
import os
import platform
import resource
import struct

_LIBC = ctypes.CDLL(None, use_errno=True)

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP = 1, 4, 38, 22
PR_SET_CHILD_SUBREAPER = 36
_SECCOMP_MODE_FILTER = 2
_EPERM, _ENOSYS = 1, 38

_MACHINES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}  # AUDIT_ARCH_*

# name: (x86-64, AArch64); None where there is no such call.
_CALLS = {
    "socket": (41, 198), "connect": (42, 203), "bind": (49, 200), "listen": (50, 201),
    "accept": (43, 202), "accept4": (288, 242), "ptrace": (101, 117),
    "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "mount": (165, 40),
    "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51), "unshare": (272, 97),
    "setns": (308, 268), "keyctl": (250, 219), "add_key": (248, 217), "request_key": (249, 218),
    "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "io_uring_register": (427, 427),
    "init_module": (175, 105), "finit_module": (313, 273), "delete_module": (176, 106),
    "kexec_load": (246, 104), "reboot": (169, 142), "swapon": (167, 224), "swapoff": (168, 225),
    "personality": (135, 92), "open_by_handle_at": (304, 265), "memfd_create": (319, 279),
    "shmget": (29, 194), "semget": (64, 190), "msgget": (68, 186), "mq_open": (240, 180),
    "memfd_secret": (447, 447), "pidfd_getfd": (438, 438), "fsopen": (430, 430),
    "move_mount": (429, 429), "open_tree": (428, 428), "mount_setattr": (442, 442),
    "settimeofday": (170, 170), "clock_settime": (227, 112), "syslog": (103, 116),
}  # fmt: skip
_PROCESS_CALLS = {
    "clone": (56, 220), "clone3": (435, 435), "fork": (57, None), "vfork": (58, None),
    "kill": (62, 129), "tkill": (200, 130), "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240), "pidfd_open": (434, 434), "pidfd_send_signal": (424, 424),
    "prlimit64": (302, 261),
}  # fmt: skip
_TGKILL = (234, 131)


def _check(result, what):
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")
    return result


def prctl(option, value):
    """Set an attribute of this process."""
    _check(_LIBC.prctl(option, ctypes.c_ulong(value), 0, 0, 0), f"prctl({option})")


def limit_resources(limits, *, limit_processes):
    """Set the hard limits of this process and of all that it starts."""
    seconds = int(limits["seconds_per_program"]) + 1
    for name, value in (
        ("RLIMIT_CORE", 0),
        ("RLIMIT_CPU", seconds),
        ("RLIMIT_AS", limits["memory_bytes"]),
        ("RLIMIT_FSIZE", limits["disk_bytes"]),
        ("RLIMIT_NOFILE", 64),
        ("RLIMIT_MEMLOCK", 0),
        ("RLIMIT_MSGQUEUE", 0),
    ):
        # The soft CPU limit ends the process by a signal of its own, which tells why it ended.
        hard = value + 1 if name == "RLIMIT_CPU" else value
        resource.setrlimit(getattr(resource, name), (value, hard))
    if limit_processes:
        # Three are ours: the one that forks, the program's own, and the one that judges.
        number = limits["max_processes"] + 2
        resource.setrlimit(resource.RLIMIT_NPROC, (number, number))


def forbid_system_calls(*, processes):
    """Install a seccomp filter.

    Args:
        processes: Whether new processes and signals to others are forbidden as well, which is
            needed where no namespace of process ids contains them.
    """
    machine = platform.machine()
    if machine not in _MACHINES:
        raise OSError(_ENOSYS, f"no list of system calls for {machine}")
    column = 0 if machine == "x86_64" else 1
    refuse = 0x00050000 | _EPERM
    allow, kill = 0x7FFF0000, 0x80000000
    code = [(0x20, 0, 0, 4), (0x15, 1, 0, _MACHINES[machine]), (0x06, 0, 0, kill), (0x20, 0, 0, 0)]
    if machine == "x86_64":  # the x32 numbers of the same calls
        code += [(0x35, 0, 1, 0x40000000), (0x06, 0, 0, kill)]
    names = {**_CALLS, **(_PROCESS_CALLS if processes else {})}
    for numbers in names.values():
        if numbers[column] is not None:
            code += [(0x15, 0, 1, numbers[column]), (0x06, 0, 0, refuse)]
    if processes:  # a process may still send a signal to itself, as abort() does
        code += [
            (0x15, 0, 4, _TGKILL[column]),
            (0x20, 0, 0, 16),
            (0x15, 1, 0, os.getpid()),
            (0x06, 0, 0, refuse),
            (0x06, 0, 0, allow),
        ]
    code.append((0x06, 0, 0, allow))
    program = b"".join(struct.pack("HBBI", *line) for line in code)
    buffer = ctypes.create_string_buffer(program)

    class Filter(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_void_p)]

    description = Filter(len(code), ctypes.cast(buffer, ctypes.c_void_p))
    result = _LIBC.prctl(PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(description), 0, 0)
    _check(result, "seccomp")


def restrict_files(readable, writable):
    """Let this process and its children read some folders, write others, and nothing else.

    Uses Landlock (https://docs.kernel.org/userspace-api/landlock.html).
    """
    version = _check(_LIBC.syscall(444, None, ctypes.c_size_t(0), 1), "landlock")
    handled = (1 << 13) - 1  # version 1
    if version >= 2:
        handled |= 1 << 13  # refer
    if version >= 3:
        handled |= 1 << 14  # truncate
    ruleset = struct.pack("Q", handled)
    descriptor = _check(_LIBC.syscall(444, ruleset, ctypes.c_size_t(8), 0), "landlock")
    read = 0b1101  # execute, read a file, read a folder
    for paths, rights in ((readable, read), (writable, handled)):
        for path in paths:
            if not os.path.exists(path):
                continue
            # Of a file, only rights that a file can have.
            allowed = rights if os.path.isdir(path) else rights & (0b111 | 1 << 14)
            folder = os.open(path, os.O_PATH | os.O_CLOEXEC)
            rule = struct.pack("=Qi", allowed & handled, folder)
            _check(_LIBC.syscall(445, descriptor, 1, rule, 0), f"landlock {path}")
            os.close(folder)
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    _check(_LIBC.syscall(446, descriptor, 0), "landlock")
    os.close(descriptor)


def become(user):
    """Give up root for good."""
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
