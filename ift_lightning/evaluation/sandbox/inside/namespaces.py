"""Enters new namespaces with nothing in them but the interpreter, then becomes another script.

Usage: python namespaces.py SETTINGS SCRIPT ARGUMENTS..., where SETTINGS is a JSON object with
``readable`` (paths to show, read-only), ``scratch`` (an empty folder to show), ``disk_bytes``, and
``user`` (an id to become; null where this is not run by root).
"""

import ctypes
import json
import os
import signal
import sys

import hardening

_LIBC = ctypes.CDLL(None, use_errno=True)
_NEWNS, _NEWUTS, _NEWIPC = 0x00020000, 0x04000000, 0x08000000
_NEWUSER, _NEWPID, _NEWNET = 0x10000000, 0x20000000, 0x40000000
_RDONLY, _NOSUID, _NODEV, _REMOUNT, _BIND, _REC, _PRIVATE = 1, 2, 4, 32, 4096, 16384, 1 << 18
_DETACH = 2
_DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom")


def _call(name, *arguments):
    if getattr(_LIBC, name)(*arguments) < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")


def _mount(source, target, kind, flags, options=""):
    _call("mount", source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags),
          options.encode())  # fmt: skip


def _bind(path, root, *, read_only):
    target = root + path
    if os.path.isdir(path):
        os.makedirs(target, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o644))
    _mount(path, target, "", _BIND | _REC)
    if read_only:
        # A mount made by somebody else keeps the flags that it has.
        kept = os.statvfs(target).f_flag & (os.ST_NOSUID | os.ST_NODEV | os.ST_NOEXEC
                                            | os.ST_NOATIME | os.ST_RELATIME)  # fmt: skip
        _mount("", target, "", _BIND | _REMOUNT | _RDONLY | _NOSUID | kept)


def _new_root(settings):
    root = settings["scratch"]
    _mount("none", "/", "", _REC | _PRIVATE)
    _mount("tmpfs", root, "tmpfs", _NOSUID | _NODEV, "size=1m,mode=755")
    for path in settings["readable"]:
        if os.path.islink(path):  # such as /lib, which is part of /usr
            os.symlink(os.readlink(path), root + path)
        elif os.path.exists(path):
            _bind(path, root, read_only=True)
    for path in _DEVICES:
        _bind(path, root, read_only=False)
    os.makedirs(root + "/tmp", exist_ok=True)
    _mount("tmpfs", root + "/tmp", "tmpfs", _NOSUID | _NODEV,
           f"size={settings['disk_bytes']},nr_inodes=4096,mode=1777")  # fmt: skip
    old = root + "/.old"
    os.makedirs(old)
    _call("pivot_root", root.encode(), old.encode())
    os.chdir("/")
    _call("umount2", b"/.old", _DETACH)
    os.rmdir("/.old")
    _mount("", "/", "", _REMOUNT | _BIND | _RDONLY | _NOSUID | _NODEV)


def main():
    settings = json.loads(sys.argv[1])
    user, group = os.getuid(), os.getgid()
    flags = _NEWNS | _NEWUTS | _NEWIPC | _NEWPID | _NEWNET
    if settings["user"] is None:
        flags |= _NEWUSER
    _call("unshare", flags)
    if settings["user"] is None:
        maps = {"setgroups": "deny", "uid_map": f"{user} {user} 1", "gid_map": f"{group} {group} 1"}
        for name, text in maps.items():
            with open(f"/proc/self/{name}", "w") as stream:
                stream.write(text)
    child = os.fork()
    if child:
        # Ends with its child, and its child with it.
        for number in (0, 1, 2):
            os.close(number)
        _, status = os.waitpid(child, 0)
        os._exit(os.waitstatus_to_exitcode(status) & 0xFF)
    hardening.prctl(hardening.PR_SET_PDEATHSIG, signal.SIGKILL)
    _new_root(settings)
    if settings["user"] is not None:
        hardening.become(settings["user"])
    hardening.prctl(hardening.PR_SET_NO_NEW_PRIVS, 1)
    # Replacing the program gives up every capability: no user here is root.
    os.execv(sys.executable, [sys.executable, "-s", "-S", "-B", *sys.argv[2:]])


if __name__ == "__main__":
    main()
