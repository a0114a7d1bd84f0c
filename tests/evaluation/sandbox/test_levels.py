"""Which level is chosen, why another is not, and that nobody has to be root."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from containment import FOUR, LIMITS, SOUND, run_one

import ift_lightning
from ift_lightning.errors import UserError
from ift_lightning.evaluation.sandbox import (
    Level,
    Program,
    Sandbox,
    SandboxLimits,
    choose_level,
    levels,
    sandbox,
    self_test,
)
from ift_lightning.evaluation.sandbox.levels import LevelUnavailableError

STRONG = [Level.BUBBLEWRAP, Level.NAMESPACES, Level.LANDLOCK_SECCOMP]
USER = 12345


def test_strongest_level_that_holds_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    holding: set[Level] = set()
    tried: list[Level] = []

    def check(level: Level, limits: SandboxLimits) -> None:
        tried.append(level)
        if level not in holding:
            raise LevelUnavailableError(f"no {level} here")

    monkeypatch.setattr(sandbox, "check_level", check)
    with pytest.raises(UserError) as caught:
        choose_level(LIMITS)
    assert tried == STRONG
    for level in STRONG:
        assert f"{level}: no {level} here" in str(caught.value)
    assert "allow_weak" in str(caught.value)
    with pytest.raises(UserError):
        choose_level(LIMITS, allow_weak=True)
    assert tried[-1] is Level.RLIMITS
    holding.add(Level.RLIMITS)
    with pytest.raises(UserError):
        choose_level(LIMITS)
    assert choose_level(LIMITS, allow_weak=True) is Level.RLIMITS
    for level in reversed(STRONG):
        holding.add(level)
        assert choose_level(LIMITS) is level
    assert choose_level(LIMITS, Level.NAMESPACES) is Level.NAMESPACES


def test_missing_bubblewrap_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(levels.shutil, "which", lambda name: None)
    with pytest.raises(UserError, match="bubblewrap is not installed"):
        choose_level(LIMITS, Level.BUBBLEWRAP)


@pytest.mark.parametrize(
    ("change", "leak"),
    [
        ({"max_processes": 100}, "limit on processes"),
        ({"memory_bytes": 4 << 30}, "memory limit"),
    ],
)
def test_self_test_notices_a_leak(
    monkeypatch: pytest.MonkeyPatch, change: dict[str, object], leak: str
) -> None:
    """A level that is weakened on purpose must not be found good."""
    real = self_test.prepare

    def weakened(level: Level, limits: SandboxLimits, worker: int) -> levels.Launch:
        launch = real(level, limits, worker)
        return dataclasses.replace(
            launch,
            settings=dataclasses.replace(launch.settings, **change),  # type: ignore[arg-type]
        )

    level = _any_level()
    monkeypatch.setattr(self_test, "prepare", weakened)
    with pytest.raises(LevelUnavailableError, match=leak):
        self_test.check_level(level, LIMITS)


def test_self_test_notices_that_nothing_is_contained(monkeypatch: pytest.MonkeyPatch) -> None:
    real = self_test.prepare
    monkeypatch.setattr(
        self_test, "prepare", lambda level, limits, worker: real(Level.RLIMITS, limits, worker)
    )
    with pytest.raises(LevelUnavailableError, match="a program"):
        self_test.check_level(Level.BUBBLEWRAP, LIMITS)


def _any_level() -> Level:
    try:
        return choose_level(LIMITS)
    except UserError as error:
        pytest.skip(str(error))


def test_level_may_be_given_by_name() -> None:
    level = _any_level()
    with Sandbox(LIMITS, level.value, num_workers=1) as box:  # type: ignore[arg-type]
        assert box.level is level
        assert run_one(box, SOUND).verdict == "pass"


def test_misuse() -> None:
    with pytest.raises(UserError, match="num_workers"):
        Sandbox(num_workers=0)
    with pytest.raises(RuntimeError, match="with Sandbox"):
        next(Sandbox().run([Program("a", SOUND, "f", FOUR)]))
    with pytest.raises(ValueError, match=r"sandbox.memory_bytes is 5"):
        SandboxLimits(memory_bytes=5)


SCRIPT = """
import sys
from ift_lightning.evaluation.sandbox import *
from hostile_programs import ATTACKS
limits = SandboxLimits(2.0, 128 << 20, 1 << 20, 8, 1 << 20)
names = [name for name in ATTACKS if "MARK" not in ATTACKS[name].code]
programs = [
    Program(name, ATTACKS[name].code.replace("PARENT", "1").replace("PORT", "1"), "f",
            [{"args": [2], "expected": 4}])
    for name in names
]
with Sandbox(limits, sys.argv[1]) as sandbox:
    for outcome in sandbox.run(programs):
        attack = ATTACKS[outcome.id]
        single = sandbox.level == "landlock_seccomp" and attack.single
        expected = single or attack.verdict
        if expected not in ("any", outcome.verdict):
            print(outcome)
print("done")
"""


@pytest.mark.slow
@pytest.mark.parametrize("level", STRONG)
def test_an_ordinary_user_needs_no_privilege(tmp_path: Path, level: Level) -> None:
    """Run the hostile programs as a user without any right; an ordinary user's own tests do."""
    python = shutil.which("python3", path="/usr/bin")
    setpriv = shutil.which("setpriv")
    if os.geteuid() != 0 or setpriv is None or python is None:
        pytest.skip("needs root, setpriv and the system's own Python")
    version = subprocess.run(
        [python, "-c", "import sys; print(sys.version_info >= (3, 11))"], capture_output=True
    )
    if version.stdout.strip() != b"True":
        pytest.skip("the system's own Python is older than 3.11")
    # A copy that this user may read, wherever the checkout lies.
    folder = Path("/var/tmp") / f"ift-sandbox-{os.getpid()}"
    try:
        package = Path(ift_lightning.__file__).parent
        copy = folder / "ift_lightning"
        shutil.copytree(package / "evaluation" / "sandbox", copy / "evaluation" / "sandbox")
        for name in ("__init__.py", "errors.py"):
            shutil.copy(package / name, copy)
        (copy / "evaluation" / "__init__.py").touch()
        shutil.copy(Path(__file__).parents[2] / "hostile_programs.py", folder)
        (folder / "script.py").write_text(SCRIPT)
        subprocess.run(["chmod", "-R", "a+rX", str(folder)], check=True)
        user = [setpriv, f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "--no-new-privs"]
        environment = {"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"}
        result = subprocess.run(
            [*user, python, str(folder / "script.py"), level.value],
            capture_output=True,
            text=True,
            env=environment,
            cwd="/",
            timeout=120,
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if "No sandbox level holds" in result.stderr:
        pytest.skip(result.stderr.strip().splitlines()[-1])
    assert result.stdout == "done\n", result.stdout + result.stderr
