"""Programs that try to cheat, to get out, or to do harm, at every level that holds here."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ift_lightning.errors import UserError
from ift_lightning.evaluation.sandbox import Level, Outcome, Program, Sandbox, SandboxLimits

LIMITS = SandboxLimits(seconds_per_program=1.0, memory_bytes=256 << 20, disk_bytes=4 << 20)
ONE = [{"args": [1], "expected": 2}]
STATEMENT = ["x = 0\nassert f(1) == 2"]  # more than one statement: judged inside
MARK = "ift-sandbox-"


def processes() -> set[str]:
    """Return the command lines of contained interpreters that are there."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().decode("utf-8", "replace")
        except OSError:
            continue
        if "sandbox/inside/" in command:
            found.add(f"{folder.name} {command[:80]}")
    return found


@pytest.fixture(
    scope="module",
    params=[
        Level.NAMESPACES,
        pytest.param(Level.BUBBLEWRAP, marks=pytest.mark.slow),
        pytest.param(Level.LANDLOCK_SECCOMP, marks=pytest.mark.slow),
    ],
)
def sandbox(request) -> Iterator[Sandbox]:
    before = processes(), set(Path(tempfile.gettempdir()).glob(f"{MARK}*"))
    try:
        box = Sandbox(LIMITS, level=request.param, num_workers=2)
        box.__enter__()
    except UserError as error:
        pytest.skip(f"this level does not hold on this machine: {error}")
    yield box
    box.__exit__(None, None, None)
    assert processes() <= before[0]
    assert set(Path(tempfile.gettempdir()).glob(f"{MARK}*")) <= before[1]


def run(sandbox: Sandbox, code: str, tests=ONE) -> Outcome:
    program = Program("p", textwrap.dedent(code), "f", tests)
    (outcome,) = sandbox.run([program])
    # Whatever it was, the next program is not touched by it.
    (sound,) = sandbox.run([Program("q", "def f(x):\n    return x + 1", "f", ONE)])
    assert sound.verdict == "pass", sound
    return outcome


CHEATS = {
    "equal to everything": """
        class Always(int):
            def __eq__(self, other): return True
            def __ne__(self, other): return False
            __hash__ = int.__hash__
        def f(x): return Always(7)
        """,
    "another type": "def f(x): return 2.0",
    "prints the answer": "def f(x): print(2)",
    "walks the frames": """
        import sys
        def f(x):
            frame = sys._getframe()
            while frame is not None:
                for value in list(frame.f_locals.values()) + list(frame.f_globals.values()):
                    if isinstance(value, dict) and 'expected' in value:
                        return value['expected']
                frame = frame.f_back
        """,
    "searches the heap": """
        import gc
        def f(x):
            for value in gc.get_objects():
                if isinstance(value, dict) and 'expected' in value:
                    return value['expected']
        """,
    "patches comparison": """
        import builtins, json
        builtins.all = lambda *_: True
        json.dumps = lambda *_, **__: '["value", ["i", "0x3"]]'
        def f(x): return 9
        """,
}


@pytest.mark.parametrize("name", CHEATS)
def test_cheats_fail(sandbox: Sandbox, name: str) -> None:
    outcome = run(sandbox, CHEATS[name])
    assert outcome.verdict in ("fail", "error") and outcome.num_passed == 0


FORGERIES = {
    "exits cleanly while loading": "import sys\nsys.exit(0)",
    "exits cleanly when called": "import os\ndef f(x): os._exit(0)",
    "exits by exception": "def f(x): raise SystemExit(0)",
    "writes verdicts everywhere": """
        import os
        def f(x):
            for number in range(3, 64):
                for text in (b'["pass"]\\n', b'["loaded"]\\n["pass"]\\n["value", ["b", true]]\\n'):
                    try: os.write(number, text)
                    except OSError: pass
            os._exit(0)
        """,
    "swallows everything": """
        import time
        def f(x):
            while True:
                try: time.sleep(100)
                except BaseException: pass
        """,
}


@pytest.mark.parametrize("name", FORGERIES)
@pytest.mark.parametrize("tests", [ONE, STATEMENT], ids=["data", "statements"])
def test_forged_verdicts_do_not_pass(sandbox: Sandbox, name: str, tests) -> None:
    outcome = run(sandbox, FORGERIES[name], tests)
    assert outcome.verdict in ("error", "timeout") and not outcome.executed
    assert outcome.num_passed == 0


def test_statements_are_judged_apart_from_the_program(sandbox: Sandbox) -> None:
    always = "class A:\n    def __eq__(s, o): return True\ndef f(x): return A()"
    outcome = run(sandbox, always, STATEMENT)
    assert outcome.verdict == "fail" and outcome.judged_in_child
    frames = """
        import builtins, sys
        builtins.AssertionError = KeyError
        def f(x):
            frame = sys._getframe()
            while frame:
                frame.f_globals['AssertionError'] = KeyError
                frame = frame.f_back
            return 3
        """
    assert run(sandbox, frames, STATEMENT).verdict == "fail"
    assert run(sandbox, "def f(x): return x + 1", STATEMENT).verdict == "pass"
    raising = ["def check(c):\n  try: c(1)\n  except ValueError: return\n  assert False\ncheck(f)"]
    assert run(sandbox, "def f(x): raise ValueError('no')", raising).verdict == "pass"
    assert run(sandbox, "def f(x): return 1", raising).verdict == "fail"


HARM = {
    "endless loop": ("def f(x):\n  while True: pass", {"timeout"}),
    "sleeps": ("import time\ndef f(x): time.sleep(60)", {"timeout"}),
    "loops while loading": ("while True: pass", {"timeout"}),
    "huge allocation": ("def f(x): return len('x' * (1 << 34))", {"memory"}),
    "grows": ("def f(x):\n  a = [0]\n  while True: a = a + a", {"memory", "timeout"}),
    "deep recursion": ("def f(x): return f(x)", {"error"}),
    "deeper recursion": (
        "import sys\nsys.setrecursionlimit(10**9)\ndef f(x): return f(x)",
        {"crash", "memory", "error", "timeout"},
    ),
    "deep nesting": ("x = " + "(" * 20000 + ")" * 20000, {"no_code"}),
    "segmentation fault": ("import ctypes\ndef f(x): ctypes.string_at(0)", {"crash"}),
    "kills itself": ("import os, signal\ndef f(x): os.kill(os.getpid(), 9)", {"crash", "error"}),
    "aborts": ("import os\ndef f(x): os.abort()", {"crash"}),
    "ignores signals": (
        "import signal\nfor s in range(1, 32):\n  try: signal.signal(s, signal.SIG_IGN)\n"
        "  except (OSError, ValueError): pass\ndef f(x):\n  while True: pass",
        {"timeout"},
    ),
    "floods its output": (
        "def f(x):\n  for _ in range(10**9): print('x' * 1000)\n",
        {"timeout"},
    ),
    "floods the answer": ("def f(x): return 'x' * (50 << 20)", {"error", "memory"}),
    "asks for input": ("def f(x): return int(input())", {"error"}),
    "signals everybody": (
        "import os\ndef f(x):\n  os.kill(-1, 9)\n  return 3",
        {"crash", "error", "fail"},
    ),
    "signals the one above": (
        "import os\ndef f(x):\n  for p in {1, os.getppid()}:\n"
        "    try: os.kill(p, 9)\n    except OSError: pass\n  return 3",
        {"fail"},
    ),
    "syntax error": ("def f(x) return", {"no_code"}),
    "nothing": ("   \n", {"no_code"}),
    "null byte": ("x = '\0'", {"no_code"}),
    "no such function": ("def g(x): return 2", {"error"}),
    "cyclic value": ("def f(x):\n  a = []\n  a.append(a)\n  return a", {"error", "fail"}),
}  # fmt: skip


@pytest.mark.parametrize("name", HARM)
def test_harm_is_bounded_and_named(sandbox: Sandbox, name: str) -> None:
    code, expected = HARM[name]
    started = time.monotonic()
    outcome = run(sandbox, code)
    assert outcome.verdict.value in expected, outcome
    assert time.monotonic() - started < 30
    assert len(outcome.detail) < 2000


def test_fork_bomb_leaves_nothing(sandbox: Sandbox) -> None:
    bomb = """
        import os
        def f(x):
            while True:
                try: os.fork()
                except OSError: pass
        """
    assert run(sandbox, bomb).verdict == "timeout"


def test_thread_bomb(sandbox: Sandbox) -> None:
    bomb = """
        import threading, time
        def f(x):
            started = 0
            try:
                for _ in range(1000):
                    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
                    started += 1
            except (RuntimeError, MemoryError):
                return started
            return started
        """
    outcome = run(sandbox, bomb)
    if sandbox.level is Level.LANDLOCK_SECCOMP:  # no thread at all, which may stop an import
        assert outcome.verdict in ("fail", "error") and outcome.num_passed == 0
        return
    assert outcome.verdict == "fail"
    assert int(outcome.detail.split("returned ")[1].split(",")[0]) <= LIMITS.max_processes


def test_orphans_are_ended(sandbox: Sandbox) -> None:
    orphan = """
        import os, time
        def f(x):
            try:
                if os.fork() == 0:
                    os.setsid()
                    if os.fork() == 0:
                        while True:
                            open('still-here', 'w').write('x')
                            time.sleep(0.01)
                    os._exit(0)
            except OSError:
                return 2
            time.sleep(0.1)
            return 2
        """
    assert run(sandbox, orphan).verdict == "pass"
    look = "import os\ndef f(x): return len(os.listdir('.')) + 2"
    assert run(sandbox, look).verdict == "pass"


def test_disk_is_bounded_and_cleaned(sandbox: Sandbox) -> None:
    fill = f"""
        def f(x):
            written = 0
            try:
                with open('big', 'wb') as stream:
                    for _ in range(64):
                        stream.write(bytes(1 << 20)); stream.flush(); written += 1
            except OSError:
                pass
            return written <= {LIMITS.disk_bytes >> 20}
        """
    assert run(sandbox, fill, [{"args": [1], "expected": True}]).verdict in ("pass", "crash")
    awkward = """
        import os
        def f(x):
            os.makedirs('a/b/c'); open('a/b/c/d', 'w').close()
            os.symlink('/usr', 'link'); os.mkfifo('pipe')
            os.chmod('a/b', 0); os.chmod('a', 0)
            return 2
        """
    assert run(sandbox, awkward).verdict == "pass"
    look = "import os\ndef f(x): return len(os.listdir('.')) + 2"
    assert run(sandbox, look).verdict == "pass"


def test_no_host_files_no_writes_no_network(sandbox: Sandbox, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("hidden")
    for folder in (tmp_path, *list(tmp_path.parents)[:3]):
        if os.access(folder, os.W_OK):
            folder.chmod(folder.stat().st_mode | 0o005)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        code = f"""
            import os, socket
            def attempt(action):
                try: return bool(action())
                except BaseException: return False
            def f(x):
                return [
                    attempt(lambda: open({str(secret)!r}).read()),
                    attempt(lambda: open('/etc/passwd').read()),
                    attempt(lambda: open({str(tmp_path / "out")!r}, 'w')),
                    attempt(lambda: open('/usr/written', 'w')),
                    attempt(lambda: os.listdir('/proc')),
                    attempt(lambda: socket.create_connection(('127.0.0.1', {port}), 1)),
                    attempt(lambda: socket.socket()),
                    attempt(lambda: os.kill({os.getpid()}, 0) or True),
                    attempt(lambda: os.setuid(0) or True),
                    attempt(lambda: os.getuid() == 0),
                ]
            """
        outcome = run(sandbox, code, [{"args": [1], "expected": [False] * 10}])
        assert outcome.verdict == "pass", outcome.detail
        server.settimeout(0.1)
        with pytest.raises(TimeoutError):
            server.accept()
    assert not (tmp_path / "out").exists()


def test_system_calls_are_refused(sandbox: Sandbox) -> None:
    code = """
        import ctypes
        def f(x):
            libc = ctypes.CDLL(None, use_errno=True)
            results = []
            for name, arguments in (('ptrace', (0, 0, 0, 0)), ('unshare', (0x10000000,)),
                                    ('mount', (b'none', b'/tmp', b'tmpfs', 0, 0)),
                                    ('memfd_create', (b'x', 0))):
                ctypes.set_errno(0)
                results.append(getattr(libc, name)(*arguments) < 0 and ctypes.get_errno() == 1)
            return results
        """
    outcome = run(sandbox, code, [{"args": [1], "expected": [True] * 4}])
    assert outcome.verdict == "pass", outcome.detail


def test_programs_do_not_see_each_other(sandbox: Sandbox) -> None:
    first = """
        import builtins, math
        builtins.x, math.pi = 1, 3
        open('left', 'w').close()
        def f(x): return 2
        """
    second = """
        import builtins, math, os
        def f(x):
            return 2 if math.pi > 3.1 and not hasattr(builtins, 'x') and not os.listdir('.') else 0
        """
    assert run(sandbox, first).verdict == "pass"
    assert run(sandbox, second).verdict == "pass"


def test_inputs_are_fresh_for_every_test(sandbox: Sandbox) -> None:
    code = "def f(x):\n    x.append(1)\n    return x"
    outcome = run(sandbox, code, [{"args": [[]], "expected": [1]}] * 3)
    assert outcome.verdict == "pass" and outcome.num_passed == outcome.num_tests == 3


def test_a_killed_interpreter_is_replaced(sandbox: Sandbox) -> None:
    for worker in sandbox._workers:
        if worker._process is not None:
            os.kill(worker._process.pid, signal.SIGKILL)
            worker._process.wait()
    outcomes = list(
        sandbox.run([Program(str(i), "def f(x): return 2", "f", ONE) for i in range(6)])
    )
    assert [outcome.verdict for outcome in outcomes].count("pass") >= 4
    assert run(sandbox, "def f(x): return 2").verdict == "pass"


def test_nothing_outlives_a_killed_parent(sandbox: Sandbox, tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(
        "import sys\nfrom ift_lightning.evaluation.sandbox import *\n"
        f"box = Sandbox(level=Level('{sandbox.level.value}'), num_workers=1)\nbox.__enter__()\n"
        "print('ready', flush=True)\n"
        "list(box.run([Program('p', 'while True: pass', 'f', [])]))\n"
    )
    before = processes()
    parent = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None and parent.stdout.readline() == "ready\n"
    time.sleep(0.3)
    assert processes() - before
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 10
    while processes() - before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not processes() - before
    # Its folder is left, and goes with the next sandbox.
    mine = f"{MARK}{parent.pid}-*"
    assert list(Path(tempfile.gettempdir()).glob(mine))
    with Sandbox(level=sandbox.level, num_workers=1):
        assert not list(Path(tempfile.gettempdir()).glob(mine))


def test_limits_alone_are_refused_unless_asked_for() -> None:
    with pytest.raises(UserError, match="sandbox.allow_weak=true"), Sandbox(level=Level.RLIMITS):
        pass
    with Sandbox(LIMITS, level=Level.RLIMITS, allow_weak=True, num_workers=1) as weak:
        assert weak.level is Level.RLIMITS
        assert run(weak, "def f(x): return x + 1").verdict == "pass"
        assert run(weak, "def f(x):\n  while True: pass").verdict == "timeout"
