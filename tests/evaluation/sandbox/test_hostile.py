"""Hostile programs at every level: the exact verdict, and nothing left afterwards."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from containment import (
    FOUR,
    LIMITS,
    SOUND,
    descendants,
    processes_with,
    run_one,
    wait_until_gone,
)
from hostile_programs import ATTACKS as FIRST_ATTACKS
from hostile_values import MORE_ATTACKS

from ift_lightning.errors import UserError
from ift_lightning.evaluation.sandbox import Level, Outcome, Program, Sandbox, Verdict

STRONG = (Level.BUBBLEWRAP, Level.NAMESPACES, Level.LANDLOCK_SECCOMP)
ATTACKS = FIRST_ATTACKS | MORE_ATTACKS
# It makes its own pipe non-blocking and returns a long, wrong value. Whether the pipe is ever full
# is up to the scheduler: the value arrives whole and is wrong, or half of it arrives, and sending
# it is an error. Both are right; nothing that is cut off can be taken for the expected value.
ENDS_EITHER_WAY = {"nonblocking": {Verdict.ERROR, Verdict.FAIL}}
INSIDE = "sandbox_inside"  # in the command line of every interpreter of a sandbox


@dataclass
class Scene:
    """A sandbox, and what the programs in it are after."""

    sandbox: Sandbox
    folder: Path
    server: socket.socket
    before: set[int]  # processes that were there already

    def aim(self, code: str) -> str:
        for name, value in (
            ("PORT", self.server.getsockname()[1]),
            ("SECRET", self.folder / "secret"),
            ("OUTSIDE", self.folder),
            ("PARENT", os.getpid()),
            ("MARK", 12345),
        ):
            code = code.replace(name, str(value))
        return code


@pytest.fixture(
    scope="module",
    params=[None, *(pytest.param(level, marks=pytest.mark.slow) for level in STRONG)],
    ids=lambda level: level or "strongest",
)
def scene(request: pytest.FixtureRequest) -> Iterator[Scene]:
    """A sandbox at one level; at the end nothing of it may be left."""
    os.environ["IFT_SANDBOX_CANARY"] = "1"
    before = descendants(os.getpid())
    shared = set(Path("/dev/shm").iterdir())
    with (
        tempfile.TemporaryDirectory() as name,
        socket.create_server(("127.0.0.1", 0)) as server,
    ):
        folder = Path(name)
        folder.chmod(0o777)
        (folder / "secret").write_text("secret")
        temporary = set(folder.parent.iterdir())
        try:
            with Sandbox(LIMITS, request.param, num_workers=2) as sandbox:
                yield Scene(sandbox, folder, server, before)
        except UserError as error:
            pytest.skip(str(error))
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()
        assert [path.name for path in folder.iterdir()] == ["secret"]
        assert (folder / "secret").read_text() == "secret"
        assert folder.stat().st_mode & 0o777 == 0o777
        left = {path for path in set(folder.parent.iterdir()) - temporary if path.name[:1] == "s"}
        assert not left
    assert not wait_until_gone(descendants(os.getpid()) - before)
    new = set(Path("/dev/shm").iterdir()) - shared
    # Others use the folder, too; these are the names that the programs here make.
    assert not {path for path in new if re.fullmatch(r"\d+|c|sem\.left|ift-light.*", path.name)}
    assert not [line for line in processes_with(INSIDE) if f"{os.getpid()}" in line]
    del os.environ["IFT_SANDBOX_CANARY"]


@pytest.fixture(scope="module")
def outcomes(scene: Scene) -> dict[str, Outcome]:
    """Every attack, one after the other, in one sandbox."""
    programs = [
        Program(name, scene.aim(attack.code), "f", FOUR) for name, attack in ATTACKS.items()
    ]
    return {outcome.id: outcome for outcome in scene.sandbox.run(programs)}


@pytest.mark.parametrize("name", ATTACKS)
def test_attack_gets_its_verdict(scene: Scene, outcomes: dict[str, Outcome], name: str) -> None:
    attack, outcome = ATTACKS[name], outcomes[name]
    expected: str | None = attack.verdict
    if scene.sandbox.level is Level.LANDLOCK_SECCOMP and attack.single is not None:
        expected = attack.single
    if name in ENDS_EITHER_WAY:
        assert outcome.verdict in ENDS_EITHER_WAY[name], outcome
        if outcome.verdict is Verdict.FAIL:
            assert "xxx', not 4" in outcome.detail
    elif expected != "any":
        assert outcome.verdict == expected, outcome
    assert (outcome.num_passed == 1) == (outcome.verdict is Verdict.PASS)
    assert outcome.executed == (outcome.verdict in (Verdict.PASS, Verdict.FAIL))
    assert not outcome.judged_in_child
    assert len(outcome.detail) <= 300 and "\n" not in outcome.detail
    assert "secret" not in outcome.detail.replace(str(scene.folder / "secret"), "")


def test_nothing_is_left_between_programs(scene: Scene, outcomes: dict[str, Outcome]) -> None:
    # An outer process per worker may wait for the interpreter inside.
    assert len(outcomes) == len(ATTACKS)
    mine = descendants(os.getpid()) - scene.before
    assert len(mine) <= 2 * scene.sandbox.num_workers
    assert run_one(scene.sandbox, SOUND).verdict is Verdict.PASS


def test_a_program_does_not_see_the_one_before(scene: Scene) -> None:
    first = (
        "import builtins, math, os, threading\nbuiltins.left, math.pi = 1, 3\n"
        "os.environ['LEFT'] = '1'\n"
        "try:\n    for path in ('/tmp/a/b', '/dev/shm/c'): os.makedirs(path); os.chmod(path, 0)\n"
        "    os.symlink('/usr', '/tmp/link'); os.mkfifo('/tmp/pipe'); os.chmod('/tmp/a', 0)\n"
        "except PermissionError: pass\n"
        "def f(x): return 4"
    )
    second = (
        "import builtins, math, os\n"
        "def names(folder):\n"
        "    try: return os.listdir(folder)\n"
        "    except OSError: return []\n"
        "def f(x):\n"
        "    clean = math.pi > 3.1 and not hasattr(builtins, 'left') and 'LEFT' not in os.environ\n"
        "    return 4 if clean and not names('/tmp') + names('/dev/shm') else names('/tmp')"
    )
    programs = [Program(str(n), code, "f", FOUR) for n, code in enumerate([first, second] * 4)]
    assert [outcome.verdict for outcome in scene.sandbox.run(programs)] == ["pass"] * 8


# Goes through all memory that can be read, for two texts that it does not hold itself.
SCAN = """
import ctypes, os, re, zlib
libc = ctypes.CDLL(None, use_errno=True)
NEEDLES = (1383713188, 1894405145)
def f(x):
    reader, writer = os.pipe()
    places = {id(value) for value in (object(), [], "abc" * 50, b"x" * 600, bytearray(3000))}
    for size in (10, 3000, 100000):
        places.add(ctypes.addressof(ctypes.c_char.from_buffer(bytearray(size))))
    pages = {(place >> 12) + n << 12 for place in places for n in range(-3000, 3000)}
    num_read = num_found = 0
    for page in sorted(pages):
        if page > 0 and libc.write(writer, ctypes.c_void_p(page), 4096) == 4096:
            data = os.read(reader, 4096)
            num_read += 1
            for match in re.finditer(rb"the [sv]\\w+ of", data):
                num_found += zlib.crc32(data[match.start() : match.start() + 23]) in NEEDLES
    return [num_found, num_read > 500]
"""


def test_no_copy_of_the_program_before_is_in_memory(scene: Scene) -> None:
    reference = "# the secret of the reference is nine\ndef f(x): return 'the value of ' + x"
    tests = [{"args": ["it is nine"], "expected": "the value of it is nine"}]
    judged = "for x in ('it is nine',): assert f(x) == 'the value of ' + x"
    nothing = [{"args": [2], "expected": [0, True]}]
    programs = [
        Program("reference", reference, "f", [*tests, judged]),
        Program("scan", SCAN, "f", nothing),
    ]
    outcomes = list(scene.sandbox.run(programs * 4))  # whichever worker is free
    assert [outcome.verdict for outcome in outcomes] == ["pass"] * 8, outcomes


def test_the_folder_is_bounded_and_writable(scene: Scene) -> None:
    code = (
        "def f(x):\n"
        "    with open('/tmp/notes', 'w') as file: file.write('four')\n"
        "    return len(open('/tmp/notes').read())"
    )
    expected = "error" if scene.sandbox.level is Level.LANDLOCK_SECCOMP else "pass"
    assert run_one(scene.sandbox, code).verdict == expected


def test_processes_and_threads_are_bounded_together(scene: Scene) -> None:
    code = """
import os, threading, time
def f(x):
    started = 1
    for _ in range(50):
        try:
            if os.fork() == 0: time.sleep(100)
        except OSError: break
        started += 1
        try: threading.Thread(target=time.sleep, args=(100,), daemon=True).start()
        except RuntimeError: break
        started += 1
    return started <= LIMIT
"""
    code = code.replace("LIMIT", str(LIMITS.max_processes + 1))
    tests = [{"args": [0], "expected": True}]
    assert run_one(scene.sandbox, code, tests).verdict is Verdict.PASS


def test_a_killed_interpreter_is_replaced(scene: Scene) -> None:
    for pid in descendants(os.getpid()):
        os.kill(pid, signal.SIGKILL)
    programs = [Program(str(number), SOUND, "f", FOUR) for number in range(6)]
    assert [outcome.verdict for outcome in scene.sandbox.run(programs)] == ["pass"] * 6


def test_an_interpreter_killed_at_work_is_replaced(scene: Scene) -> None:
    slow = Program("slow", "import time\ntime.sleep(1)\ndef f(x): return 4", "f", FOUR)
    results = scene.sandbox.run([slow, slow, slow])
    thread_pids = descendants(os.getpid())
    outcome = next(results)
    for pid in thread_pids:
        if wait_until_gone({pid}, seconds=0):
            os.kill(pid, signal.SIGKILL)
    assert [outcome.verdict, *(result.verdict for result in results)] == ["pass"] * 3


def test_everything_ends_with_its_parent(scene: Scene, tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(
        "import sys, threading\nfrom ift_lightning.evaluation.sandbox import *\n"
        "limits = SandboxLimits(seconds_per_program=60)\n"
        f"with Sandbox(limits, Level('{scene.sandbox.level}')) as sandbox:\n"
        "    programs = [Program(str(n), 'while True: pass') for n in range(4)]\n"
        "    threading.Timer(0.5, lambda: print('running', flush=True)).start()\n"
        "    list(sandbox.run(programs))\n"
    )
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None and parent.stdout.readline() == b"running\n"
        below = descendants(parent.pid)
        assert below
        parent.kill()
    assert not wait_until_gone(below)


def test_weak_level_runs_nothing_unless_asked() -> None:
    with pytest.raises(UserError, match=r"sandbox.allow_weak=true"), Sandbox(level=Level.RLIMITS):
        pass
    before = descendants(os.getpid())
    with Sandbox(LIMITS, Level.RLIMITS, num_workers=1, allow_weak=True) as sandbox:
        assert sandbox.level is Level.RLIMITS
        assert run_one(sandbox, SOUND).verdict is Verdict.PASS
        orphan = ATTACKS["orphan"].code.replace("MARK", "1000")
        assert run_one(sandbox, orphan).verdict is Verdict.PASS
        assert len(descendants(os.getpid()) - before) <= 1
        assert run_one(sandbox, "while True: pass").verdict is Verdict.TIMEOUT
    assert not wait_until_gone(descendants(os.getpid()) - before)


def test_interruption_does_not_wait_for_the_rest() -> None:
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt), Sandbox(LIMITS, num_workers=1) as sandbox:
        programs = [Program("a", SOUND, "f", FOUR), *[Program("b", "while True: pass")] * 30]
        for _ in sandbox.run(programs):
            raise KeyboardInterrupt
    assert time.monotonic() - started < 30  # thirty programs would take a minute
