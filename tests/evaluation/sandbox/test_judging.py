"""Test code that is no data: judged apart from the code under test, and not to be forged."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from containment import FOUR, LIMITS, SOUND, run_one

from ift_lightning.errors import UserError
from ift_lightning.evaluation.sandbox import Program, Sandbox, SandboxLimits, Verdict

# A loop keeps a test from becoming data.
LOOP = "def check(candidate):\n    for x in range(3):\n        assert candidate(x) == x * 2\n"


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    try:
        with Sandbox(LIMITS, num_workers=2) as sandbox:
            yield sandbox
    except UserError as error:
        pytest.skip(str(error))


JUDGED = {
    "right": (SOUND, LOOP, "pass"),
    "wrong": ("def f(x): return x + 2", LOOP, "fail"),
    "raises": ("def f(x): return x / 0", LOOP, "error"),
    "raises its own": ("class E(Exception): pass\ndef f(x): raise E('no')", LOOP, "error"),
    "exits": ("def f(x): raise SystemExit(0)", LOOP, "error"),
    "leaves": ("import os\ndef f(x): os._exit(0)", LOOP, "error"),
    "leaves while loading": ("import os\nos._exit(0)", LOOP, "error"),
    "hangs": ("def f(x):\n    while True: pass", LOOP, "timeout"),
    "crashes": ("import ctypes\ndef f(x): return ctypes.string_at(0)", LOOP, "crash"),
    "fills memory": ("def f(x): return bytearray(1 << 34)", LOOP, "memory"),
    "no such function": ("def g(x): return 4", LOOP, "fail"),
    "no code": ("# nothing", LOOP, "no_code"),
    "always equal": (
        "class A(int):\n    def __eq__(s, o): return True\n    __hash__ = int.__hash__\n"
        "def f(x): return A(77)",
        LOOP,
        "fail",
    ),
    "always equal object": (
        "class A:\n    def __eq__(s, o): return True\ndef f(x): return A()",
        LOOP,
        "fail",
    ),
    "reads the tests": (
        "import gc\nword = 'assert ' + 'candidate'\n"
        "def strings(value, depth=0):\n"
        "    if isinstance(value, str): yield value\n"
        "    elif depth < 4 and isinstance(value, dict):\n"
        "        for v in list(value.values()): yield from strings(v, depth + 1)\n"
        "    elif depth < 4 and isinstance(value, (list, tuple)):\n"
        "        for v in value: yield from strings(v, depth + 1)\n"
        "def f(x):\n"
        "    found = any(word in s != word for v in gc.get_objects() for s in strings(v))\n"
        "    return 2 * x if found else -1",
        LOOP,
        "fail",
    ),
    "forges a verdict": (
        "import json, os\n"
        "def f(x):\n"
        "    data = json.dumps({'word': '', 'index': 0, 'raised': None}).encode()\n"
        "    for number in range(3, 64):\n"
        "        try: os.write(number, len(data).to_bytes(4, 'big') + data)\n"
        "        except OSError: pass\n"
        "    os._exit(0)",
        LOOP,
        "error",
    ),
    "kills the judge": (
        "import os\n"
        "def f(x):\n"
        "    for pid in [-1, *range(2, 10)]:\n"
        "        if pid != os.getpid():\n"
        "            try: os.kill(pid, 9)\n"
        "            except OSError: pass\n"
        "    return -1",
        LOOP,
        None,  # fail where the judge runs as another user, error where it could be killed
    ),
    "breaks the builtins": (
        "import builtins\nbuiltins.AssertionError = KeyError\n"
        "builtins.isinstance = lambda *a: True\ndef f(x): return -1",
        LOOP,
        "error",
    ),
    "endless answer": (
        "import os\ndef f(x):\n    for n in range(3, 64):\n"
        "        try: os.write(n, b'\\xff' * 100)\n        except OSError: pass\n    return -1",
        LOOP,
        "error",
    ),
    "object": (
        "class S:\n    def __init__(self): self.items = []\n"
        "    def push(self, x): self.items.append(x); return len(self.items)\n"
        "    def __len__(self): return len(self.items)\n"
        "    def __contains__(self, x): return x in self.items\n",
        "s = S()\ns.push(3)\nassert s.push(4) == 2\nassert len(s) == 2 and 3 in s and 5 not in s\n"
        "assert s.items == [3, 4] and bool(s)",
        "pass",
    ),
    "changes its argument": (
        "def f(a): a.sort()",
        "a = [3, 1, 2]\nf(a)\nassert a == [1, 2, 3]",
        "pass",
    ),
    "does not change its argument": (
        "def f(a): sorted(a)",
        "a = [3, 1, 2]\nf(a)\nassert a == [1, 2, 3]",
        "fail",
    ),
    "calls back": (
        "def f(g, x): return g(x) + 1",
        "assert f(lambda v: v * 2, 3) == 7",
        "pass",
    ),
    "generator": (
        "def f(n):\n    for i in range(n): yield i",
        "got = []\nfor x in f(3): got.append(x)\nassert got == [0, 1, 2]",
        "pass",
    ),
    "constant": ("K = 5\ndef f(x): return x", "assert f(5) == K", "pass"),
    "helper of the code": (
        "def enc(s): return s[::-1]\ndef f(s): return s[::-1]",
        "def check(candidate):\n    for s in ('ab', 'xyz'):\n        assert candidate(enc(s)) == s",
        "pass",
    ),
    "expects an exception": (
        "def f(x): raise ValueError(x)",
        "try:\n    f(1)\nexcept ValueError as error:\n    assert str(error) == '1'\n"
        "else:\n    assert False",
        "pass",
    ),
    "expected exception missing": (
        "def f(x): return 1",
        "try:\n    f(1)\nexcept ValueError:\n    pass\nelse:\n    assert False",
        "fail",
    ),
}


@pytest.mark.parametrize("name", JUDGED)
def test_judged_program(sandbox: Sandbox, name: str) -> None:
    code, tests, verdict = JUDGED[name]
    outcome = run_one(sandbox, code, tests)
    assert outcome.verdict == verdict or (verdict is None and outcome.verdict in ("fail", "error"))
    assert outcome.judged_in_child and outcome.num_tests == 1
    assert outcome.num_passed == (1 if verdict == "pass" else 0)
    assert (outcome.detail == "") == (verdict == "pass")


def test_data_and_code_may_be_mixed(sandbox: Sandbox) -> None:
    tests = [{"args": [2], "expected": 4}, "for x in range(3): assert f(x) == x * 2", *FOUR]
    outcome = run_one(sandbox, SOUND, tests)
    assert (outcome.verdict, outcome.num_passed, outcome.num_tests) == ("pass", 3, 3)
    assert outcome.judged_in_child
    outcome = run_one(sandbox, "def f(x): return 4", tests)
    assert (outcome.verdict, outcome.num_passed, outcome.num_tests) == ("fail", 2, 3)
    assert outcome.detail == "test 2 of 3: for x in range(3): assert f(x) == x * 2"


def test_details_name_the_first_failure(sandbox: Sandbox) -> None:
    tests = ["assert f(1) == 2", "assert f(2) == 5", "assert f(3) == 7"]
    outcome = run_one(sandbox, SOUND, tests)
    assert outcome.detail == "test 2 of 3: assert f(2) == 5 is false: f(2) returned 4"
    assert (outcome.num_passed, outcome.executed) == (1, True)
    outcome = run_one(sandbox, SOUND, [{"args": [[1]], "expected": [1]}])
    assert outcome.detail == "test 1 of 1: f([1]) returned [1, 1], not [1]"
    outcome = run_one(sandbox, "def f(x): return int('x')", FOUR)
    assert outcome.detail == (
        "test 1 of 1: f(...) raised ValueError: invalid literal for int() with base 10: 'x'"
    )
    assert not outcome.executed


def test_each_test_gets_inputs_of_its_own(sandbox: Sandbox) -> None:
    code = "def f(x):\n    x.append(1)\n    return x"
    outcome = run_one(sandbox, code, [{"args": [[]], "expected": [1]}] * 3)
    assert (outcome.verdict, outcome.num_passed) == ("pass", 3)


def test_without_tests_a_program_is_only_run(sandbox: Sandbox) -> None:
    outcome = run_one(sandbox, "print(1)", ())
    assert (outcome.verdict, outcome.executed, outcome.num_tests) == ("pass", True, 0)
    assert run_one(sandbox, "print(x)", ()).verdict is Verdict.ERROR


def test_outcomes_come_in_order_and_as_they_are_asked_for(sandbox: Sandbox) -> None:
    taken = []

    def programs() -> Iterator[Program]:
        for number in range(40):
            taken.append(number)
            naps = "import time\ntime.sleep(0.05)\n" if number % 3 == 0 else ""
            yield Program(str(number), f"{naps}def f(x): return {number}", "f", FOUR)

    results = sandbox.run(programs())
    assert next(results).id == "0"
    assert len(taken) < 20
    assert [outcome.id for outcome in results] == [str(number) for number in range(1, 40)]


def test_random_numbers_and_sets_are_the_same_every_time(sandbox: Sandbox) -> None:
    code = "import random\ndef f(x): return [random.random(), list({'a', 'b', 'c', 'dd'})]"
    first = run_one(sandbox, code).detail
    assert all(run_one(sandbox, code).detail == first for _ in range(4))


@pytest.mark.slow
def test_humaneval_references_pass_and_empty_bodies_fail() -> None:
    path = os.environ.get("IFT_LIGHTNING_HUMANEVAL", "")
    if not Path(path).is_file():
        pytest.skip("IFT_LIGHTNING_HUMANEVAL names no file (HumanEval.jsonl.gz)")
    with gzip.open(path, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    assert len(rows) == 164

    def programs(body: str | None) -> list[Program]:
        return [
            Program(
                row["task_id"],
                row["prompt"] + (row["canonical_solution"] if body is None else body),
                row["entry_point"],
                row["test"],
            )
            for row in rows
        ]

    with Sandbox(SandboxLimits(seconds_per_program=20)) as sandbox:
        references = list(sandbox.run(programs(None)))
        assert [outcome for outcome in references if outcome.verdict != "pass"] == []
        assert sum(outcome.judged_in_child for outcome in references) == 7
        empty = list(sandbox.run(programs("    pass\n")))
        assert [outcome for outcome in empty if outcome.verdict not in ("fail", "error")] == []
        assert all(outcome.detail for outcome in empty)
