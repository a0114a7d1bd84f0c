"""Programs that try to fool, hurt or escape an evaluator, with the verdict that each one gets.

Every program defines ``f``, which one test calls: ``f(2)`` has to be 4. ``PORT``, ``SECRET``,
``OUTSIDE`` and ``PARENT`` are replaced by a listening port, a readable file, a writable folder and
the process id of the evaluator.
"""

from __future__ import annotations

from dataclasses import dataclass

PASS, FAIL, TIMEOUT, MEMORY, CRASH = "pass", "fail", "timeout", "memory", "crash"
ERROR, NO_CODE = "error", "no_code"


@dataclass(frozen=True)
class Hostile:
    """A program and its verdict; ``single`` is the verdict where no other process can be made."""

    code: str
    verdict: str
    single: str | None = None  # at the Landlock level; None: the same


ATTACKS = {
    # --- forging the result ---
    "always_equal": Hostile(
        """
class Always:
    def __eq__(self, other): return True
    def __ne__(self, other): return False
def f(x): return Always()
""",
        FAIL,
    ),
    "always_equal_int": Hostile(
        """
class Always(int):
    def __eq__(self, other): return True
    def __hash__(self): return 4
    def __int__(self): return 4
    def __index__(self): return 4
    def __repr__(self): return "4"
def f(x): return Always(5)
""",
        FAIL,
    ),
    "changes_its_class": Hostile(
        """
class Four:
    @property
    def __class__(self): return int
def f(x): return Four()
""",
        FAIL,
    ),
    "frame_walk": Hostile(
        """
import sys
def f(x):
    frame = sys._getframe()
    while frame:
        for name, value in list(frame.f_locals.items()) + list(frame.f_globals.items()):
            if name in ("expected", "word", "verdict", "tests", "sources"):
                raise SystemExit("found " + name)
            if isinstance(value, dict) and "expected" in value:
                return value["expected"]
        frame = frame.f_back
    return 5
""",
        FAIL,
    ),
    "garbage_walk": Hostile(
        """
import gc
def f(x):
    for value in gc.get_objects():
        if isinstance(value, dict):
            for name in ("expected", "word", "sources"):
                if type(value.get(name)) in (int, str, list) and "__name__" not in value:
                    return value[name]
    return 5
""",
        FAIL,
    ),
    "forged_verdict_on_every_descriptor": Hostile(
        """
import json, os
def f(x):
    for message in ({"passed": True, "verdict": "pass"}, {"word": "", "index": 0, "raised": None}):
        data = json.dumps(message).encode()
        for descriptor in range(3, 64):
            try:
                os.write(descriptor, len(data).to_bytes(4, "big") + data)
            except OSError:
                pass
    os._exit(0)
""",
        ERROR,
    ),
    "garbage_on_every_descriptor": Hostile(
        """
import os
def f(x):
    for descriptor in range(3, 64):
        try:
            os.write(descriptor, os.urandom(1000) + bytes(1000))
        except OSError:
            pass
    os._exit(0)
""",
        ERROR,
    ),
    "replaced_json": Hostile(
        """
import json, os
json.dumps = lambda *args, **kwargs: '{"value": [4]}'
os.write = lambda descriptor, data: len(data)
os._exit = lambda status: None
def f(x): return 5
""",
        FAIL,
    ),
    "replaced_builtins": Hostile(
        """
import builtins
builtins.type = lambda value: int
builtins.isinstance = lambda value, kind: True
builtins.len = lambda value: 0
def f(x): return 5
""",
        ERROR,
    ),
    "trace_function": Hostile(
        """
import sys
def watch(frame, event, argument):
    if "values" in frame.f_locals:
        frame.f_locals["values"][:] = [[4]]
    return watch
sys.settrace(watch); sys.setprofile(watch)
def f(x): return 5
""",
        FAIL,
    ),
    # --- leaving early ---
    "exit_zero_while_loading": Hostile("import sys\nsys.exit(0)\ndef f(x): return 4", ERROR),
    "exit_zero": Hostile("import sys\ndef f(x): sys.exit(0)", ERROR),
    "hard_exit_zero_while_loading": Hostile("import os\nos._exit(0)", ERROR),
    "hard_exit_zero": Hostile("import os\ndef f(x): os._exit(0)", ERROR),
    "quit": Hostile("def f(x): raise SystemExit", ERROR),
    "keyboard_interrupt": Hostile("def f(x): raise KeyboardInterrupt", ERROR),
    "generator_exit": Hostile("def f(x): raise GeneratorExit", ERROR),
    "reads_input": Hostile("def f(x): return int(input())", ERROR),
    "reads_input_while_loading": Hostile("n = input()\ndef f(x): return 4", ERROR),
    # --- time ---
    "endless_loop": Hostile("def f(x):\n    while True: pass", TIMEOUT),
    "endless_loop_while_loading": Hostile("while True: pass", TIMEOUT),
    "sleep": Hostile("import time\ndef f(x): time.sleep(1000)", TIMEOUT),
    "swallows_every_exception": Hostile(
        """
import time
def f(x):
    while True:
        try:
            while True: time.sleep(1)
        except BaseException:
            pass
""",
        TIMEOUT,
    ),
    "ignores_signals": Hostile(
        """
import signal
for number in range(1, 65):
    try:
        signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError):
        pass
def f(x):
    while True: pass
""",
        TIMEOUT,
    ),
    "stops_itself": Hostile(
        "import os, signal\ndef f(x): os.kill(os.getpid(), signal.SIGSTOP)", TIMEOUT
    ),
    "slow_power": Hostile("def f(x): return 9 ** 9 ** 9", TIMEOUT),
    "slow_regular_expression": Hostile(
        "import re\ndef f(x): return re.match('(a+)+$', 'a' * 60 + 'b')", TIMEOUT
    ),
    # --- memory ---
    "huge_allocation": Hostile("def f(x): return len(bytearray(1 << 34))", MEMORY),
    "growing_list": Hostile("def f(x):\n    a = [0]\n    while True: a += a", MEMORY),
    "growing_while_loading": Hostile("a = [0]\nwhile True: a += a", MEMORY),
    "many_fat_processes": Hostile(
        """
import os, time
def f(x):
    for _ in range(4):
        if os.fork() == 0:
            data = bytearray(b"x") * (50 << 20)
            time.sleep(100)
    time.sleep(100)
""",
        MEMORY,
        single=ERROR,
    ),
    "endless_result": Hostile("def f(x): return 'x' * (4 << 20)", ERROR),
    "deep_recursion": Hostile("def f(x): return f(x + 1)", ERROR),
    "crashing_recursion": Hostile(
        """
import sys
sys.setrecursionlimit(1 << 30)
class A:
    def __repr__(self): return repr(self.__class__.__mro__) + str([self])
def f(x): return len(repr(A()))
""",
        CRASH,
    ),
    "deeply_nested_result": Hostile(
        "def f(x):\n    a = []\n    for _ in range(100000): a = [a]\n    return a", FAIL
    ),
    "cyclic_result": Hostile("def f(x):\n    a = []\n    a.append(a)\n    return a", FAIL),
    "colliding_result": Hostile(
        "def f(x): return {i * ((1 << 61) - 1) for i in range(3000)}", FAIL
    ),
    "endless_generator": Hostile(
        "def f(x):\n    def g():\n        while True: yield 4\n    return g()", FAIL
    ),
    "endless_range": Hostile("def f(x): return range(10 ** 18)", FAIL),
    # --- signals and crashes ---
    "segmentation_fault": Hostile("import ctypes\ndef f(x): return ctypes.string_at(0)", CRASH),
    "abort": Hostile("import os\ndef f(x): os.abort()", CRASH),
    "kills_itself": Hostile("import os\ndef f(x): os.kill(os.getpid(), 9)", CRASH),
    "kills_everyone": Hostile(
        """
import os
def f(x):
    for target in (-1, 0 - os.getppid(), os.getppid(), PARENT, 1):
        try:
            os.kill(target, 9)
        except OSError:
            pass
    return 4
""",
        PASS,
    ),
    "stops_everyone": Hostile(
        """
import os, signal
def f(x):
    for number in (signal.SIGSTOP, signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
        for target in (os.getppid(), PARENT, 1):
            try:
                os.kill(target, number)
            except OSError:
                pass
    return 4
""",
        PASS,
    ),
    "limits_of_the_parent": Hostile(
        """
import os, resource
def f(x):
    for pid in (PARENT, os.getppid(), 1):
        for action in (
            lambda: resource.prlimit(pid, resource.RLIMIT_CPU, (0, 0)),
            lambda: os.setpriority(os.PRIO_PROCESS, pid, 19),
            lambda: os.sched_setaffinity(pid, {0}),
        ):
            try:
                action()
            except (OSError, ProcessLookupError):
                continue
            return 0
    return 4
""",
        PASS,
    ),
    "alarm": Hostile(
        "import signal, time\nsignal.alarm(1)\ndef f(x):\n    time.sleep(1.4)\n    return 4", CRASH
    ),
    "traces_its_parent": Hostile(
        """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
def f(x):
    for pid in (os.getppid(), PARENT, 1):
        if libc.ptrace(16, pid, 0, 0) == 0:
            return 0
    return 4
""",
        PASS,
    ),
    # --- processes and threads ---
    "fork_bomb": Hostile(
        """
import os
def f(x):
    while True:
        try:
            os.fork()
        except OSError:
            pass
""",
        TIMEOUT,
    ),
    "fork_bomb_that_answers": Hostile(
        """
import os, time
def f(x):
    for _ in range(1000):
        try:
            if os.fork() == 0:
                time.sleep(100)
        except OSError:
            pass
    return 4
""",
        PASS,
    ),
    "thread_bomb": Hostile(
        """
import threading, time
def f(x):
    while True:
        threading.Thread(target=time.sleep, args=(100,), daemon=True).start()
""",
        ERROR,
    ),
    "orphan": Hostile(
        """
import os, time
def f(x):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            for descriptor in range(64):
                try: os.close(descriptor)
                except OSError: pass
            time.sleep(MARK)
        os._exit(0)
    return 4
""",
        PASS,
        single=ERROR,
    ),
    "runs_a_program": Hostile(
        "import subprocess\ndef f(x): return subprocess.run(['/usr/bin/true']).returncode + 4",
        PASS,
        single=ERROR,
    ),
    "background_thread_goes_on": Hostile(
        """
import threading, time
def g():
    while True: time.sleep(0.001)
threading.Thread(target=g).start()
def f(x): return 4
""",
        PASS,
        single="any",  # root gets no thread there
    ),
    # --- output and disk ---
    "flood": Hostile(
        """
import os, sys
def f(x):
    for _ in range(200):
        os.write(1, bytes(1 << 20)); os.write(2, bytes(1 << 20))
    print("x" * (1 << 20)); print("x" * (1 << 20), file=sys.stderr)
    return 4
""",
        PASS,
    ),
    "flood_on_every_descriptor": Hostile(
        """
import os
def f(x):
    while True:
        for descriptor in range(3, 64):
            try: os.write(descriptor, b"\\xff" * (1 << 20))
            except OSError: pass
""",
        ERROR,
    ),
    "closes_every_descriptor": Hostile(
        "import os\ndef f(x):\n    os.closerange(0, 100)\n    return 4", ERROR
    ),
    "fills_the_disk": Hostile(
        """
import os
def f(x):
    for folder in ("/tmp", "/dev/shm"):
        for number in range(100):
            with open(f"{folder}/{number}", "wb") as file:
                file.write(bytes(1 << 20))
    return 4
""",
        ERROR,
    ),
    "fills_the_inodes": Hostile(
        """
def f(x):
    for number in range(100000):
        open(f"/tmp/{number}", "w").close()
    return 4
""",
        ERROR,
    ),
    "memory_files": Hostile(
        """
import os
def f(x):
    for _ in range(1000):
        os.write(os.memfd_create("x"), bytes(1 << 20))
    return 4
""",
        ERROR,
    ),
    # --- files and network ---
    "reads_a_secret": Hostile("def f(x): return open('SECRET').read()", ERROR),
    "reads_passwords": Hostile("def f(x): return open('/etc/shadow').read()", ERROR),
    "reads_the_parent": Hostile("def f(x): return open('/proc/PARENT/environ').read()", ERROR),
    "reads_its_init": Hostile("def f(x): return open('/proc/1/environ').read()", ERROR),
    "reads_host_names": Hostile("def f(x): return open('/etc/hostname').read()", ERROR),
    "sees_no_environment": Hostile(
        "import os\ndef f(x): return 4 if 'IFT_SANDBOX_CANARY' not in os.environ else 5", PASS
    ),
    "writes_outside": Hostile("def f(x): return open('OUTSIDE/out', 'w').write('out')", ERROR),
    "writes_the_library": Hostile(
        "import os\ndef f(x): return open(os.__file__, 'a').write('#')", ERROR
    ),
    "makes_a_folder_in_the_root": Hostile("import os\ndef f(x): return os.mkdir('/new')", ERROR),
    "changes_modes": Hostile("import os\ndef f(x): return os.chmod('OUTSIDE', 0)", ERROR),
    "links_out": Hostile(
        "import os\ndef f(x):\n    os.symlink('SECRET', 's')\n    return open('s').read()",
        ERROR,
    ),
    "connects_to_loopback": Hostile(
        "import socket\ndef f(x): return bool(socket.create_connection(('127.0.0.1', PORT), 1))",
        ERROR,
    ),
    "sends_datagrams": Hostile(
        """
import socket
def f(x): return socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', PORT))
""",
        ERROR,
    ),
    "listens": Hostile(
        "import socket\ndef f(x): return socket.create_server(('127.0.0.1', 0)).fileno()", ERROR
    ),
    "abstract_socket": Hostile(
        """
import socket
def f(x):
    s = socket.socket(socket.AF_UNIX)
    s.connect("\\0SECRET")
""",
        ERROR,
    ),
    # --- privileges ---
    "becomes_root": Hostile("import os\ndef f(x): return os.setuid(0)", ERROR, single="any"),
    "raises_its_limits": Hostile(
        """
import resource as r
def f(x): return r.setrlimit(r.RLIMIT_AS, (r.RLIM_INFINITY, r.RLIM_INFINITY))
""",
        ERROR,
    ),
    "new_namespaces": Hostile(
        """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
def f(x): return 4 if libc.unshare(0x10000000) == -1 and libc.unshare(0x00020000) == -1 else 5
""",
        PASS,
    ),
    "mounts": Hostile(
        """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
def f(x):
    tried = [libc.mount(b"x", b"/tmp", b"tmpfs", 0, None), libc.umount2(b"/proc", 2),
             libc.mount(b"x", b"/proc", b"proc", 0, None), libc.chroot(b"/tmp")]
    return 4 if tried == [-1] * 4 else 5
""",
        PASS,
    ),
    "shared_memory": Hostile(
        """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
def f(x): return 4 if libc.shmget(1234, 1 << 20, 0o1666) == -1 else 5
""",
        PASS,
    ),
    "set_user_id_program": Hostile(
        """
import ctypes, subprocess
def f(x):
    out = subprocess.run(["/usr/bin/su", "-c", "id"], capture_output=True, stdin=subprocess.DEVNULL)
    return 4 if out.returncode != 0 else 5
""",
        PASS,
        single=ERROR,
    ),
    # --- broken sources ---
    "syntax_error": Hostile("def f(x) return 4", NO_CODE),
    "null_byte": Hostile("def f(x): return '\0'", NO_CODE),
    "lone_surrogate": Hostile("def f(x): return '\\ud800'", FAIL),
    "surrogate_in_source": Hostile("def f(x): return '\ud800'", NO_CODE),
    "deeply_nested_source": Hostile("def f(x): return " + "(" * 10000 + ")" * 10000, NO_CODE),
    "cut_off": Hostile("def f(x):\n    return (4", NO_CODE),
    "nothing": Hostile("  \n", NO_CODE),
    "only_comments": Hostile('"""Text."""\n# def f(x): return 4\n', NO_CODE),
    "no_such_function": Hostile("def g(x): return 4", ERROR),
}
