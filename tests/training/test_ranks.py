"""Which rank a process is, from what launchers say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from composing import compose_train

from ift_lightning import assembly, finetuning, launching
from ift_lightning.config.checks import Machine, check_hardware
from ift_lightning.config.schema import TrainConfig
from ift_lightning.errors import RankError, UserError
from ift_lightning.launching import keep_hydra_quiet_on_other_ranks, local_ranks, run_training
from ift_lightning.training.ranks import (
    Ranks,
    first_slurm_host,
    ranks_of_environment,
    with_bound_gpu,
)

TORCHRUN = {
    "RANK": "5",
    "WORLD_SIZE": "8",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "4",
    "GROUP_RANK": "1",
    "MASTER_ADDR": "n01",
    "MASTER_PORT": "29511",
}
SRUN = {
    "SLURM_JOB_ID": "77",
    "SLURM_STEP_ID": "0",
    "SLURM_STEP_NUM_TASKS": "8",
    "SLURM_STEP_NUM_NODES": "2",
    "SLURM_STEP_NODELIST": "gpu[07-08]",
    "SLURM_PROCID": "5",
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "1",
}


def test_torchrun() -> None:
    assert ranks_of_environment(TORCHRUN) == Ranks(5, 8, 1, 4, 1, "n01", 29511)


def test_own_variables_are_read_back() -> None:
    ranks = Ranks(3, 4, 1, 2, 1, "n01", 1234)
    assert ranks_of_environment(ranks.environment()) == ranks


def test_srun() -> None:
    ranks = ranks_of_environment(SRUN)
    assert ranks is not None
    assert ranks == Ranks(5, 8, 1, 4, 1, "gpu07", ranks.main_port)
    assert 15000 <= ranks.main_port < 30000
    other = ranks_of_environment({**SRUN, "SLURM_JOB_ID": "78"})
    assert other is not None
    assert other.main_port != ranks.main_port


@pytest.mark.parametrize(
    "environ",
    [
        {},
        # The script of a batch job: it has tasks, and is none of them.
        {"SLURM_JOB_ID": "77", "SLURM_NTASKS": "8", "SLURM_PROCID": "0"},
        {**SRUN, "SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"},
    ],
)
def test_no_rank(environ: dict[str, str]) -> None:
    assert ranks_of_environment(environ) is None


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("n1", "n1"),
        ("n1,n2", "n1"),
        ("gpu[07-09,12]", "gpu07"),
        ("a[3],b[1-2]", "a3"),
        ("n[1-2]-ib,m", "n1-ib"),
        ("rack[2,4]n[01-03]", "rack2n01"),
        ("n-1,n-2", "n-1"),
    ],
)
def test_first_slurm_host(nodes: str, first: str) -> None:
    assert first_slurm_host({"SLURM_STEP_NODELIST": nodes}) == first


def test_a_task_may_see_its_own_gpu_alone() -> None:
    ranks = ranks_of_environment(SRUN)
    assert ranks is not None
    assert with_bound_gpu(ranks, 4) == with_bound_gpu(ranks, 0) == ranks
    assert with_bound_gpu(ranks, 1) == Ranks(5, 8, 0, 1, 5, "gpu07", ranks.main_port)


@pytest.mark.parametrize(("num_gpus", "refused"), [(1, False), (4, False), (3, True), (2, True)])
def test_gpus_are_counted_among_the_processes_that_see_them(
    num_gpus: int, refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assembly, "runs_on_gpu", lambda config: True)
    machine = Machine(has_gpu=True, num_gpus=num_gpus)
    monkeypatch.setattr(assembly, "look_at_machine", lambda: machine)

    def train_rank(config: TrainConfig, ranks: Ranks, *_: Any, **__: Any) -> float:
        check_hardware(config, machine, devices=ranks.local_world_size)
        return float(ranks.local_rank)

    monkeypatch.setattr(finetuning, "train_rank", train_rank)
    monkeypatch.setattr(launching, "raise_common_cause", _raise)
    for name, value in SRUN.items():
        monkeypatch.setenv(name, value)
    config = compose_train("strategy=ddp", "trainer.devices=4", "trainer.num_nodes=2")
    if refused:
        with pytest.raises(UserError, match=f"trainer.devices=4, and this machine has {num_gpus}"):
            run_training(config)
    else:
        assert run_training(config) == (0.0 if num_gpus == 1 else 1.0)


def _raise(folder: Any, ranks: Ranks, error: Exception) -> None:
    raise error


def test_ranks_of_one_machine() -> None:
    first, second = local_ranks(2, 1, {})
    assert first.main_port == second.main_port > 0
    assert (first.rank, second.rank, second.local_rank, second.world_size) == (0, 1, 1, 2)


def test_ranks_of_the_second_machine() -> None:
    told = {"NODE_RANK": "1", "MASTER_ADDR": "n01", "MASTER_PORT": "29400"}
    assert local_ranks(2, 3, told) == [
        Ranks(2, 6, 0, 2, 1, "n01", 29400),
        Ranks(3, 6, 1, 2, 1, "n01", 29400),
    ]
    one_task_a_machine = {**SRUN, "SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "1"}
    assert [item.rank for item in local_ranks(4, 2, one_task_a_machine)] == [4, 5, 6, 7]
    with pytest.raises(UserError, match="which of the machines"):
        local_ranks(2, 3, {})


@pytest.mark.parametrize(
    ("overrides", "environ"),
    [
        (["strategy=ddp", "trainer.devices=2"], TORCHRUN),
        (["strategy=single"], TORCHRUN),
        (["strategy=ddp", "trainer.devices=2", "trainer.num_nodes=3"], SRUN),
    ],
)
def test_another_number_of_processes_is_refused(
    overrides: list[str], environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match="the launcher started 8 processes"):
        run_training(compose_train(*overrides))


def test_a_machine_s_task_starts_the_ranks_of_its_devices(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in {**SRUN, "SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "1"}.items():
        monkeypatch.setenv(name, value)
    launched: list[Any] = []

    def launch(task: Any, *, ranks: Any, **_: Any) -> float:
        launched.extend([task, ranks])
        return 1.5

    monkeypatch.setattr(launching, "launch", launch)
    config = compose_train("strategy=ddp", "trainer.devices=4", "trainer.num_nodes=2")
    assert run_training(config) == 1.5
    assert [item.rank for item in launched[1]] == [4, 5, 6, 7]
    assert launched[0].config is config
    assert not launched[0].shares_folder


@pytest.mark.parametrize(
    ("known", "kept"),
    [("ValueError('no such row')", True), ("RuntimeError('NCCL error')", False), (None, False)],
)
def test_a_machine_without_the_fault_does_not_hide_it(
    known: str | None, kept: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {**SRUN, "SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "1"}.items():
        monkeypatch.setenv(name, value)

    def launch(*_: Any, **__: Any) -> None:
        record = {"status": "failed", "error": known}
        (tmp_path / "run.json").write_text(json.dumps(record))
        raise RankError("rank 6 failed:\nConnection closed by peer")

    monkeypatch.setattr(launching, "launch", launch)
    config = compose_train("strategy=ddp", "trainer.devices=4", "trainer.num_nodes=2")
    config.run_dir = str(tmp_path)
    with pytest.raises(RankError, match="rank 6"):
        run_training(config)
    error = json.loads((tmp_path / "run.json").read_text())["error"]
    assert error == (known if kept else "rank 6 failed:\nConnection closed by peer")


def test_a_sweep_under_torchrun_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.argv", ["train", "--multirun", "peft=lora,prefix"])
    with pytest.raises(UserError, match="Leave the launcher out"):
        keep_hydra_quiet_on_other_ranks()


def test_hydra_writes_on_the_first_rank_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["train", "peft=lora"]
    monkeypatch.setattr("sys.argv", arguments)
    for name, value in {**TORCHRUN, "RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    keep_hydra_quiet_on_other_ranks()
    assert arguments == ["train", "peft=lora"]
    monkeypatch.setenv("RANK", "5")
    keep_hydra_quiet_on_other_ranks()
    assert "hydra.output_subdir=null" in arguments
