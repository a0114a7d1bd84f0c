"""The train command in several processes: sweeps, generated answers, exports, and failures."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from test_train import write_rows

from ift_lightning.export import export_run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
TESTS = Path(__file__).parent

Train = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("processes")


@pytest.fixture(scope="module")
def train(folder: Path, model_folder: Callable[[str], Path]) -> Train:
    """Return a function that runs the command on 40 rows: 6 steps, the last validation too."""
    arguments = [
        "model=local",
        f"model.path={model_folder('llama')}",
        "data=jsonl",
        f"data.path={write_rows(folder / 'rows.json')}",
        f"data.cache_dir={folder / 'cache'}",
        "data.val_fraction=0.2",
        "data.test_fraction=0.2",
        "evaluate=true",
        "measure_before=true",
        "generation.max_new_tokens=8",
        "trainer.max_steps=6",
        "trainer.global_batch_size=4",
        "trainer.micro_batch_size=2",
        "trainer.val_every_n_steps=3",
        "trainer.log_every_n_steps=1",
        "trainer.progress_bar=false",
        "trainer.accelerator=cpu",
        "optimizer.lr=0.01",
        "logger=csv",
    ]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(TESTS / "slurm"), str(TESTS.parent)]),
    }

    def start(*overrides: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "ift_lightning.train", *overrides, *arguments],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )

    return start


@pytest.fixture(scope="module")
def alone(folder: Path, train: Train) -> Path:
    """A run in one process."""
    result = train(f"hydra.run.dir={folder / 'alone'}")
    assert result.returncode == 0, result.stderr
    return folder / "alone"


def record_of(run: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((run / "run.json").read_text(encoding="utf-8"))
    return record


def points_of(sweep: Path) -> list[Path]:
    """Return the folders of a sweep's points, in order."""
    content = json.loads((sweep / "sweep.json").read_text(encoding="utf-8"))
    return [sweep / point["folder"] for point in content["points"]]


def predictions_of(run: Path, name: str = "predictions.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / name).read_text(encoding="utf-8").splitlines()]


def apart(run: Path, other: Path) -> float:
    first, second = (
        load_file(item / "adapter" / "adapter_model.safetensors") for item in (run, other)
    )
    assert first.keys() == second.keys()
    return max(float((first[name] - second[name]).abs().max()) for name in first)


def assert_like_alone(run: Path, alone: Path) -> None:
    record, expected = record_of(run), record_of(alone)
    assert record["status"] == "completed"
    assert record["metrics"] == pytest.approx(expected["metrics"], abs=1e-4)
    assert apart(run, alone) <= 1e-5
    for name in ("predictions.jsonl", "predictions_before.jsonl"):
        assert predictions_of(run, name) == predictions_of(alone, name)
        assert predictions_of(run, name), "nothing was generated"
    for name in ("num_tokens_seen", "num_target_tokens_seen", "num_steps", "exported_step"):
        assert record["performance"][name] == expected["performance"][name]
    assert record["audit"]["trainability"]["passed"]
    assert record["audit"]["trainability"]["reload_max_difference"] <= 1e-5
    written = {path.relative_to(run).parts[0] for path in run.rglob("*") if path.is_file()}
    left = {path.relative_to(alone).parts[0] for path in alone.rglob("*") if path.is_file()}
    # What the points of a sweep print goes into a file of their own.
    assert written - left <= {"ranks", "output.log"}
    assert "ranks" in written


def test_a_sweep_whose_points_run_in_two_processes(folder: Path, train: Train, alone: Path) -> None:
    sweep = folder / "methods"
    result = train(
        "--multirun", "peft=lora,prefix", "strategy=ddp", "trainer.devices=2",
        f"hydra.sweep.dir={sweep}",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    first, second = points_of(sweep)
    names = [record_of(run)["name"] for run in (first, second)]
    assert names == ["local-lora-jsonl", "local-prefix-jsonl"]
    assert_like_alone(first, alone)
    assert record_of(second)["status"] == "completed"
    assert predictions_of(second)


def test_sharded_runs_generate_and_export_as_a_single_one(
    folder: Path, train: Train, alone: Path
) -> None:
    sweep = folder / "sharded"
    result = train(
        "--multirun", "strategy=fsdp,deepspeed", "trainer.devices=2", f"hydra.sweep.dir={sweep}"
    )
    assert result.returncode == 0, result.stderr
    for point, run in enumerate(points_of(sweep)):
        assert_like_alone(run, alone)
        assert len(list((run / "checkpoints" / "shards").iterdir())) == 4
        output = folder / f"exported-{point}"
        assert export_run(run, merge=False, output=output, checkpoint="best") == output
        exported = load_file(output / "adapter_model.safetensors")
        saved = load_file(run / "adapter" / "adapter_model.safetensors")
        assert exported.keys() == saved.keys()
        assert all((exported[name] == saved[name]).all() for name in saved)


def test_an_error_on_one_rank_fails_the_run_with_it(folder: Path, train: Train) -> None:
    run = folder / "fails"
    result = train(
        "strategy=ddp", "trainer.devices=2", "measure_before=false", f"hydra.run.dir={run}",
        "callbacks.extra.fails._target_=slow_steps.FailsOnRankOne",
    )  # fmt: skip
    assert result.returncode == 1
    assert "rank 1 failed" in result.stderr
    assert "this rank cannot go on" in result.stderr
    record = record_of(run)
    assert record["status"] == "failed"
    assert "this rank cannot go on" in record["error"]
    assert "this rank cannot go on" in (run / "ranks" / "rank-1.log").read_text(encoding="utf-8")
