"""Which process of a run this one is, and how its processes find each other.

Nothing here imports ``torch`` before a process group is started: the process that only starts the
others does not need it.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta

from ift_lightning.errors import UserError

_POLL_SECONDS = 0.2

LEAVING_SECONDS = 120.0
"""How long ranks may take to save, to write records, and to put a job back into the queue."""


@dataclass(frozen=True)
class Ranks:
    """This process among the processes of a run."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0  # on this machine
    local_world_size: int = 1
    node_rank: int = 0
    main_address: str = "127.0.0.1"  # of the machine with rank 0
    main_port: int = 0

    @property
    def is_main(self) -> bool:
        """Whether this is the one process that writes."""
        return self.rank == 0

    def environment(self) -> dict[str, str]:
        """Return the variables by which :func:`ranks_of_environment` knows a process."""
        return {
            "RANK": str(self.rank),
            "WORLD_SIZE": str(self.world_size),
            "LOCAL_RANK": str(self.local_rank),
            "LOCAL_WORLD_SIZE": str(self.local_world_size),
            "GROUP_RANK": str(self.node_rank),
            "MASTER_ADDR": self.main_address,
            "MASTER_PORT": str(self.main_port),
        }


def ranks_of_environment(environ: Mapping[str, str]) -> Ranks | None:
    """Return which rank a launcher made this process; None where none did.

    ``torchrun`` says so with RANK, WORLD_SIZE and LOCAL_RANK, ``srun`` with SLURM_PROCID and
    SLURM_STEP_NUM_TASKS. A batch script that was not started by ``srun`` is no rank.
    """
    if all(name in environ for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")):
        world_size = int(environ["WORLD_SIZE"])
        return Ranks(
            rank=int(environ["RANK"]),
            world_size=world_size,
            local_rank=int(environ["LOCAL_RANK"]),
            local_world_size=int(environ.get("LOCAL_WORLD_SIZE", world_size)),
            node_rank=int(environ.get("GROUP_RANK", 0)),
            main_address=environ.get("MASTER_ADDR", "127.0.0.1"),
            main_port=int(environ.get("MASTER_PORT", 29500)),
        )
    num_tasks = int(environ.get("SLURM_STEP_NUM_TASKS", 1))
    if num_tasks > 1 and "SLURM_PROCID" in environ:
        num_nodes = int(environ.get("SLURM_STEP_NUM_NODES", environ.get("SLURM_NNODES", 1)))
        return Ranks(
            rank=int(environ["SLURM_PROCID"]),
            world_size=num_tasks,
            local_rank=int(environ.get("SLURM_LOCALID", 0)),
            local_world_size=num_tasks // num_nodes,
            node_rank=int(environ.get("SLURM_NODEID", 0)),
            main_address=first_slurm_host(environ),
            main_port=slurm_port(environ),
        )
    return None


def first_slurm_host(environ: Mapping[str, str]) -> str:
    """Return the first machine of a SLURM job: "n[07-09,12]-ib" begins with "n07-ib"."""
    nodes = environ.get("SLURM_STEP_NODELIST") or environ.get("SLURM_JOB_NODELIST") or "127.0.0.1"
    first = re.match(r"(?:\[[^\]]*\]|[^,\[])+", nodes)  # up to a comma outside of brackets
    assert first is not None, nodes
    return re.sub(r"\[([^,\-\]]+)[^\]]*\]", r"\1", first.group())


def slurm_port(environ: Mapping[str, str]) -> int:
    """Return a port that all tasks of a job step agree on, and that other jobs hardly use."""
    job, step = (int(environ.get(name, 0)) for name in ("SLURM_JOB_ID", "SLURM_STEP_ID"))
    return 15000 + (job * 13 + step) % 15000


def expect_world_size(ranks: Ranks, devices: int, num_nodes: int) -> None:
    """Refuse a launcher that started another number of processes than the config asks for.

    Raises:
        UserError: Both numbers, and what to change.
    """
    if ranks.world_size != devices * num_nodes:
        raise UserError(
            f"the launcher started {ranks.world_size} processes, and trainer.devices={devices} "
            f"trainer.num_nodes={num_nodes} ask for {devices * num_nodes}; make the two agree, "
            "with strategy=ddp, fsdp or deepspeed"
        )


def with_bound_gpu(ranks: Ranks, num_gpus: int) -> Ranks:
    """Return the ranks for a process that sees no GPU but its own, as SLURM may bind them.

    Its GPU is then the first it sees, whatever its place on the machine.

    Args:
        ranks: This process, as a launcher has started it.
        num_gpus: GPUs that it sees.
    """
    if num_gpus != 1 or ranks.local_world_size == 1:
        return ranks
    return replace(ranks, local_rank=0, local_world_size=1, node_rank=ranks.rank)


def start_process_group(ranks: Ranks, *, on_gpu: bool, timeout_minutes: float) -> None:
    """Connect the processes of a run; does nothing where they are connected already.

    Args:
        ranks: This process.
        on_gpu: Whether tensors on GPUs are exchanged, beside those in main memory.
        timeout_minutes: How long a process may keep the others waiting, for data to be prepared
            or a model to be written.
    """
    import torch
    import torch.distributed as dist

    if dist.is_initialized():
        return
    os.environ.update(ranks.environment())
    device = None
    if on_gpu:
        torch.cuda.set_device(ranks.local_rank)
        device = torch.device("cuda", ranks.local_rank)
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if on_gpu else "gloo",
        init_method=f"tcp://{ranks.main_address}:{ranks.main_port}" if ranks.main_port else None,
        rank=ranks.rank,
        world_size=ranks.world_size,
        timeout=timedelta(minutes=timeout_minutes),
        device_id=device,
    )


def stop_process_group() -> None:
    """Let every process go its own way: from here on nobody waits for another."""
    import torch.distributed as dist

    if dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()


def barrier() -> None:
    """Wait for all ranks; a run of one process goes on."""
    import torch.distributed as dist

    if dist.is_initialized() and dist.get_world_size() > 1:
        dist.barrier()


def patient_barrier(name: str) -> None:
    """Wait for all ranks, however long one of them takes: ``barrier`` gives up after a timeout.

    Args:
        name: Of this meeting; there is one of each name in the life of a process group.
    """
    import torch.distributed as dist

    if not dist.is_initialized() or dist.get_world_size() == 1:
        return
    # The store that the ranks have found each other by. Looking into it has no deadline.
    store = dist.distributed_c10d._get_default_store()
    keys = [f"ift_lightning/{name}/{rank}" for rank in range(dist.get_world_size())]
    store.set(keys[dist.get_rank()], "here")
    while not store.check(keys):
        time.sleep(_POLL_SECONDS)


def wait_for_main_rank(seconds: float = LEAVING_SECONDS) -> None:
    """Let rank 0 leave first: the first task that goes may have a launcher end the others.

    Args:
        seconds: How long at most; a rank that has gone without a word is not waited for.
    """
    import torch.distributed as dist

    if not dist.is_initialized() or dist.get_world_size() == 1:
        return
    store = dist.distributed_c10d._get_default_store()
    deadline = time.monotonic() + seconds
    key = "ift_lightning/rank 0 leaves"
    with contextlib.suppress(RuntimeError):  # rank 0 keeps the store, and takes it along
        if dist.get_rank() == 0:
            store.set(key, "now")
            return
        while not store.check([key]) and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)


def from_main_rank(value: str) -> str:
    """Return rank 0's value; all ranks take part."""
    import torch.distributed as dist

    values = [value]
    dist.broadcast_object_list(values)
    return values[0]
