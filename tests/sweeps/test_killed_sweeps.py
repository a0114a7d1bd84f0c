"""Real sweeps, in processes of their own: killed and gone on with, on one core and on two."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def command(tmp_path: Path, model_folder: Callable[[str], Path]) -> Callable[..., list[str]]:
    """Return a function that gives the command of a small sweep: two methods, two seeds."""
    rows = [
        {"instruction": f"Add {n}.", "output": f"def add(x):\n    return x + {n}\n"}
        for n in range(60)
    ]
    (tmp_path / "rows.json").write_text(json.dumps(rows), encoding="utf-8")

    def make(folder: str, *words: str) -> list[str]:
        return [
            sys.executable, "-m", "ift_lightning.train", "--multirun", "peft=lora,prompt",
            "seeds=2", "model=local", f"model.path={model_folder('llama')}", "data=jsonl",
            f"data.path={tmp_path / 'rows.json'}", "data.val_fraction=0.2",
            "data.test_fraction=0.2", f"data.cache_dir={tmp_path / 'cache'}",
            "trainer.max_steps=30", "trainer.save_every_n_steps=3", "trainer.global_batch_size=4",
            "trainer.num_threads=1",
            f"hydra.sweep.dir={tmp_path / folder}", *words,
        ]  # fmt: skip

    return make


def weights(sweep: Path) -> dict[str, str]:
    """Return a hash of the adapter of every point."""
    return {
        path.parents[1].name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sweep.glob("*/adapter/adapter_model.safetensors")
    }


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 200
    while not condition():
        assert process.poll() is None, "the sweep ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.slow
def test_a_killed_sweep_ends_with_the_same_weights(
    command: Callable[..., list[str]], tmp_path: Path
) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    whole = subprocess.run(
        command("whole"), env=environment, capture_output=True, text=True, timeout=280, check=False
    )
    assert whole.returncode == 0, whole.stderr[-3000:]
    second = tmp_path / "killed" / "peft=lora,seed=1" / "checkpoints" / "last.ckpt"
    process = subprocess.Popen(
        command("killed"), env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        text=True,
    )  # fmt: skip
    try:
        wait_for(second.is_file, process)
    finally:
        process.kill()
        process.wait()
    first = tmp_path / "killed" / "peft=lora,seed=0" / "run.json"
    before = first.read_bytes()
    again = subprocess.run(
        command("killed"), env=environment, capture_output=True, text=True, timeout=280, check=False
    )
    assert again.returncode == 0, again.stderr[-3000:]
    assert first.read_bytes() == before  # not run again
    log = (second.parents[1] / "output.log").read_text(encoding="utf-8")
    assert log.count("training: 30 steps") == 2  # begun twice, in one folder
    assert weights(tmp_path / "killed") == weights(tmp_path / "whole")
    assert len(weights(tmp_path / "whole")) == 4
    report = json.loads((tmp_path / "killed" / "report" / "comparison.json").read_text())
    assert not report["left_out"]


@pytest.mark.slow
def test_points_side_by_side_are_the_same_and_end_with_their_parent(
    command: Callable[..., list[str]], tmp_path: Path
) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    parallel = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    # Killed while both workers train: neither may go on.
    folder = tmp_path / "side"
    process = subprocess.Popen(
        command("side", *parallel), env=environment, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    try:
        wait_for(lambda: len(list(folder.glob("*/checkpoints/last.ckpt"))) >= 2, process)
        workers = _children(process.pid)
        assert workers
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    deadline = time.monotonic() + 30
    while any(_is_alive(pid) for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not [pid for pid in workers if _is_alive(pid)]
    again = subprocess.run(
        command("side", *parallel),
        env=environment,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert again.returncode == 0, again.stderr[-3000:]
    alone = subprocess.run(
        command("alone"), env=environment, capture_output=True, text=True, timeout=280, check=False
    )
    assert alone.returncode == 0, alone.stderr[-3000:]
    assert weights(folder) == weights(tmp_path / "alone")


def _children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children")
    found = [int(word) for word in text.read_text().split()] if text.exists() else []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += [int(word) for word in (task / "children").read_text().split()]
    return sorted(set(found))


def _is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"
