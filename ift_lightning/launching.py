"""Decides where a run's processes come from, and runs it in them.

One process, ranks that ``torchrun`` or ``srun`` have started, or ranks that are started here: with
the resolved config of this one run, so that every point of a sweep has processes of its own.
Nothing here imports ``torch``.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hydra.core.hydra_config import HydraConfig

from ift_lightning.config.schema import TrainConfig
from ift_lightning.errors import RankError, UserError
from ift_lightning.training.failure_reports import is_echo, raise_common_cause
from ift_lightning.training.launcher import free_port, launch
from ift_lightning.training.ranks import (
    Ranks,
    expect_world_size,
    first_slurm_host,
    ranks_of_environment,
    slurm_port,
    with_bound_gpu,
)
from ift_lightning.training.run_record import mark_failed, read_run_record
from ift_lightning.types import RunStatus

MODULE = "ift_lightning.rank"
LOGS = "ranks"  # folder of the run's folder: output of all ranks but the first


@dataclass
class RankTask:
    """What a rank is handed.

    Args:
        config: The run's config, every value resolved.
        overrides: The command line, for the run record.
        shares_folder: Whether ``config.run_dir`` is the same on all ranks; otherwise rank 0's is
            taken.
    """

    config: TrainConfig
    overrides: list[str]
    shares_folder: bool


def run_training(config: TrainConfig) -> float | None:
    """Train in as many processes as the config asks for; see :func:`finetuning.train`."""
    from ift_lightning.finetuning import train, train_rank

    overrides = list(HydraConfig.get().overrides.task) if HydraConfig.initialized() else []
    environ = os.environ
    trainer = config.trainer
    started = ranks_of_environment(environ)
    if config.strategy.name == "single":
        if started is not None:
            expect_world_size(started, 1, 1)
        return train(config)
    if started is not None and not _starts_own_devices(started, config, environ):
        expect_world_size(started, trainer.devices, trainer.num_nodes)
        from ift_lightning.assembly import look_at_machine, runs_on_gpu

        if runs_on_gpu(config):
            started = with_bound_gpu(started, look_at_machine().num_gpus)
        # A launcher of Hydra's has settled the folder; torchrun and srun have every rank ask Hydra.
        try:
            return train_rank(config, started, overrides, shares_folder=_is_submitted(environ))
        except Exception as error:
            try:
                raise_common_cause(Path(config.run_dir) / LOGS, started, error)
            except (UserError, RankError) as cause:
                if cause is not error:  # of which rank 0 has recorded the echo
                    mark_failed(Path(config.run_dir), str(cause))
                raise
    if trainer.devices == trainer.num_nodes == 1:
        return train_rank(config, Ranks(main_port=free_port()), overrides)
    ranks = local_ranks(trainer.devices, trainer.num_nodes, environ)
    log_folder = Path(config.run_dir) / LOGS
    task = RankTask(config, overrides, shares_folder=trainer.num_nodes == 1)
    try:
        result = launch(task, module=MODULE, ranks=ranks, log_folder=log_folder)
    except (UserError, RankError) as error:
        # The rank that writes may have been ended before it could say why.
        if trainer.num_nodes == 1 or not _has_recorded_cause(Path(config.run_dir)):
            mark_failed(Path(config.run_dir), str(error))
        raise
    return float(result) if result is not None else None


def _has_recorded_cause(folder: Path) -> bool:
    """Whether a record names what failed: another machine may know what this one cannot."""
    with contextlib.suppress(UserError):
        record = read_run_record(folder)
        error = str(record.get("error") or "")
        return record.get("status") == RunStatus.FAILED and bool(error) and not is_echo(error)
    return False


def _starts_own_devices(started: Ranks, config: TrainConfig, environ: Mapping[str, str]) -> bool:
    """Whether SLURM started one task a machine, which starts the ranks of its devices itself."""
    trainer = config.trainer
    return "RANK" not in environ and started.world_size == trainer.num_nodes and trainer.devices > 1


def _is_submitted(environ: Mapping[str, str]) -> bool:
    return "SUBMITIT_EXECUTOR" in environ


def local_ranks(devices: int, num_nodes: int, environ: Mapping[str, str]) -> list[Ranks]:
    """Return the ranks to start on this machine.

    Args:
        devices: Ranks a machine.
        num_nodes: Machines.
        environ: Says which of several machines this is: SLURM's variables, or NODE_RANK,
            MASTER_ADDR and MASTER_PORT.

    Raises:
        UserError: Several machines, and nothing says which one this is.
    """
    node_rank, address, port = 0, "127.0.0.1", free_port()
    if num_nodes > 1:
        if "SLURM_NODEID" in environ and "SLURM_STEP_NUM_TASKS" in environ:
            node_rank = int(environ["SLURM_NODEID"])
            address, port = first_slurm_host(environ), slurm_port(environ)
        elif all(name in environ for name in ("NODE_RANK", "MASTER_ADDR", "MASTER_PORT")):
            node_rank = int(environ["NODE_RANK"])
            address, port = environ["MASTER_ADDR"], int(environ["MASTER_PORT"])
        else:
            raise UserError(
                f"trainer.num_nodes={num_nodes}: nothing says which of the machines this is. Start "
                "the command on each with srun, with torchrun, or with NODE_RANK, MASTER_ADDR and "
                "MASTER_PORT set"
            )
    return [
        Ranks(
            rank=node_rank * devices + index,
            world_size=num_nodes * devices,
            local_rank=index,
            local_world_size=devices,
            node_rank=node_rank,
            main_address=address,
            main_port=port,
        )
        for index in range(devices)
    ]


def keep_hydra_quiet_on_other_ranks() -> None:
    """Have Hydra write nothing where ``torchrun`` or ``srun`` started this as another rank than 0.

    Raises:
        UserError: The command line is a sweep, whose points could get out of step.
    """
    if _is_submitted(os.environ):
        return
    ranks = ranks_of_environment(os.environ)
    if ranks is None or ranks.world_size == 1:
        return
    if any(word in ("--multirun", "-m") for word in sys.argv[1:]):
        raise UserError(
            "--multirun under torchrun or srun: a point that fails on one rank would leave the "
            "others waiting. Leave the launcher out: every point starts the processes it needs"
        )
    if ranks.rank > 0:
        nowhere = Path(tempfile.gettempdir()) / f"ift_lightning-{os.getpid()}"
        sys.argv += [
            f"hydra.run.dir={nowhere}",
            "hydra.output_subdir=null",
            "hydra/job_logging=none",
            "hydra/hydra_logging=none",
        ]
