"""Sweeps on a real SLURM: points as jobs, ranks as tasks, jobs that are stopped and go on."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

TESTS = Path(__file__).resolve().parents[1]


def _load_cluster() -> Any:
    spec = importlib.util.spec_from_file_location("cluster", Path(__file__).parent / "cluster.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


cluster_module = _load_cluster()
reason = cluster_module.why_not()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(420),
    pytest.mark.skipif(reason is not None, reason=reason or ""),
]
NUM_STEPS = 12


@pytest.fixture(scope="module")
def cluster() -> Iterator[dict[str, str]]:
    with cluster_module.running_cluster() as environment:
        yield environment


@pytest.fixture(scope="module")
def shared(
    tmp_path_factory: pytest.TempPathFactory, model_folder: Callable[[str], Path]
) -> dict[str, Path]:
    """Rows, a model, and a cache, as a cluster's shared folder has them."""
    folder = tmp_path_factory.mktemp("shared")
    rows = [
        {
            "instruction": f"Add {number}.",
            "output": f"def add(value):\n    return value + {number}\n",
        }
        for number in range(40)
    ]
    (folder / "rows.json").write_text(json.dumps(rows))
    return {"folder": folder, "model": model_folder("llama")}


class Sweep:
    """Submits a sweep from a folder of its own."""

    def __init__(self, folder: Path, environment: dict[str, str], shared: dict[str, Path]) -> None:
        self.folder = folder
        paths = [str(TESTS), str(TESTS / "slurm"), str(TESTS.parent)]
        self.environment = {
            **os.environ,
            **environment,
            "PYTHONPATH": os.pathsep.join(paths),
            "OMP_NUM_THREADS": "1",
        }
        self.arguments = [
            "hydra/launcher=submitit_slurm",
            "hydra.launcher.partition=short",
            "hydra.launcher.cpus_per_task=1",
            f"hydra.sweep.dir={folder / 'sweep'}",
            "model=local",
            f"model.path={shared['model']}",
            "data=jsonl",
            f"data.path={shared['folder'] / 'rows.json'}",
            f"data.cache_dir={shared['folder'] / 'cache'}",
            "data.val_fraction=0.2",
            "evaluate=false",
            "measure_before=false",
            "peft.config.lora_dropout=0.2",
            f"trainer.max_steps={NUM_STEPS}",
            "trainer.global_batch_size=4",
            "trainer.micro_batch_size=2",
            "trainer.val_every_n_steps=4",
            "trainer.save_every_n_steps=2",
            "trainer.progress_bar=false",
            "trainer.accelerator=cpu",
            "logger=none",
        ]

    def start(self, *overrides: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [
                *(sys.executable, "-m", "ift_lightning.train", "--multirun"),
                *self.arguments,
                *overrides,
            ],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *overrides: str) -> tuple[int, str]:
        process = self.start(*overrides)
        said, _ = process.communicate(timeout=240)
        return process.returncode, said

    def command(self, *words: str) -> str:
        return subprocess.run(
            words, env=self.environment, capture_output=True, text=True, check=True, timeout=60
        ).stdout

    def record(self, point: int) -> dict[str, Any]:
        path = self.run_folder(point) / "run.json"
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return record

    def run_folder(self, point: int) -> Path:
        sweep = self.folder / "sweep"
        content = json.loads((sweep / "sweep.json").read_text(encoding="utf-8"))
        return sweep / str(content["points"][point]["folder"])

    def weights(self, point: int) -> dict[str, Any]:
        from safetensors.torch import load_file

        return load_file(self.run_folder(point) / "adapter" / "adapter_model.safetensors")


@pytest.fixture(scope="module")
def two_points(
    cluster: dict[str, str], shared: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Sweep:
    """A sweep of two jobs that nobody disturbs."""
    sweep = Sweep(tmp_path_factory.mktemp("two-points"), cluster, shared)
    code, said = sweep.run("peft=lora,dora")
    assert code == 0, said
    return sweep


@pytest.fixture
def sweep(cluster: dict[str, str], shared: dict[str, Path], tmp_path: Path) -> Sweep:
    return Sweep(tmp_path, cluster, shared)


def test_points_run_as_jobs(two_points: Sweep) -> None:
    records = [two_points.record(point) for point in range(2)]
    assert [record["status"] for record in records] == ["completed", "completed"]
    assert [record["name"] for record in records] == ["local-lora-jsonl", "local-dora-jsonl"]
    assert records[0]["overrides"][-1] == "peft=lora" or "peft=lora" in records[0]["overrides"]


def test_two_tasks_are_two_ranks(two_points: Sweep, sweep: Sweep) -> None:
    code, said = sweep.run(
        "strategy=ddp",
        "trainer.devices=2",
        "hydra.launcher.tasks_per_node=2",
        "peft.config.lora_dropout=0",
        "peft=lora",
    )
    assert code == 0, said
    record = sweep.record(0)
    assert record["status"] == "completed"
    assert record["performance"]["num_steps"] == NUM_STEPS
    # Only rank 0 speaks; as a point of a sweep, into a file of the run's folder.
    output = (sweep.run_folder(0) / "output.log").read_text()
    assert output.count("run folder:") == 1
    logs = sorted((sweep.folder / "sweep" / ".submitit").glob("*/*_log.out"))
    assert len(logs) == 2
    assert not any("run folder:" in path.read_text() for path in logs)


@pytest.mark.parametrize("how", ["preempted", "out of time"])
def test_a_job_that_is_stopped_goes_on_to_the_same_weights(
    how: str, two_points: Sweep, sweep: Sweep
) -> None:
    process = sweep.start("peft=lora", "callbacks.extra.slow._target_=slow_steps.SlowSteps")
    try:
        deadline = time.monotonic() + 120
        while not list(sweep.folder.glob("sweep/*/checkpoints/last.ckpt")):
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < deadline
            time.sleep(0.1)
        job = sweep.command("squeue", "-h", "-r", "-o", "%i").split()[0]
        if how == "preempted":
            sweep.command("scontrol", "requeue", job)
        else:
            # What SLURM sends some time before the limit; the job then requeues itself.
            sweep.command("scancel", "--signal=USR2", job)
        said, _ = process.communicate(timeout=240)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, said
    record = sweep.record(0)
    assert record["status"] == "completed"
    assert record["performance"]["num_steps"] == NUM_STEPS
    output = (sweep.run_folder(0) / "output.log").read_text()
    assert ("back into the queue" in output) is (how == "out of time")
    expected, found = two_points.weights(0), sweep.weights(0)
    assert all((expected[name] == found[name]).all() for name in expected)
    assert record["metrics"]["val/loss"] == two_points.record(0)["metrics"]["val/loss"]


def test_a_job_that_fails_is_named(sweep: Sweep) -> None:
    fails = "callbacks.extra.fails._target_=slow_steps.FailsWithDora"
    code, said = sweep.run("peft=lora,dora", fails)
    assert code == 1
    assert "1 of 2 points did not finish" in said
    assert "peft=dora: there is something wrong with the magnitudes" in said
    assert "Traceback" not in said
    assert sweep.record(0)["status"] == "completed"
    assert sweep.record(1)["status"] == "failed"


def test_a_point_that_cannot_work_is_refused_before_any_job(sweep: Sweep) -> None:
    code, said = sweep.run("peft=lora,prefix", "trainer.gradient_checkpointing=true")
    assert code == 1
    assert "in the point peft=prefix of the sweep" in said
    assert not (sweep.folder / "sweep" / ".submitit").exists()


def test_a_task_that_fails_ends_the_others(sweep: Sweep) -> None:
    code, said = sweep.run(
        "strategy=ddp",
        "trainer.devices=2",
        "hydra.launcher.tasks_per_node=2",
        "peft=lora",
        "callbacks.extra.fails._target_=slow_steps.FailsOnRankOne",
    )
    assert code == 1
    assert "rank 1 failed" in said
    assert "this rank cannot go on" in said
    assert sweep.record(0)["status"] == "failed"


def test_a_job_that_is_killed_is_named(sweep: Sweep) -> None:
    process = sweep.start("peft=lora", "callbacks.extra.slow._target_=slow_steps.SlowSteps")
    try:
        deadline = time.monotonic() + 120
        while not list(sweep.folder.glob("sweep/*/run.json")):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        job = sweep.command("squeue", "-h", "-r", "-o", "%i").split()[0]
        sweep.command("scancel", job)
        said, _ = process.communicate(timeout=240)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 1
    assert "point 0 of the sweep" in said
    assert "local-lora-jsonl" in said
