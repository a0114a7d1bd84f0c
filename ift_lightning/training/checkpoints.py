"""Checkpoint files that are either whole or not there, and that any strategy can read.

A checkpoint is a file of Lightning's form. Where a model is spread over processes, its tensors
are in *shards* beside it, one written by each rank, and the file names them. Shards have new
names each time: the file is put in place last, in one move, so that a run that is killed at any
moment has the old checkpoint or the new one. Tensors are whole and go by their names, so that the
number of processes, and the strategy, may change between two parts of a run.
"""

from __future__ import annotations

import os
import pickle
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from ift_lightning.errors import UserError
from ift_lightning.training.ranks import barrier
from ift_lightning.training.trained_state import TrainedState

_PREFIX = "model."  # of the parameters' names, as LightningModule.state_dict has them
_SHARDS = "shards"  # folder of the shards, beside the checkpoint file


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Put a file in place in one move, its content safely on the disk before.

    Args:
        path: Of the file.
        write: Writes the content to the path that it is given.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        write(temporary)
        _flush(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    _flush(path.parent)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_checkpoint(
    path: Path, header: dict[str, Any], state: TrainedState, *, sharded: bool
) -> None:
    """Write a checkpoint; all ranks take part.

    Args:
        path: Of the checkpoint file.
        header: Everything but tensors that are trained and the optimizer's.
        state: Those.
        sharded: Every rank writes the tensors of its share of the parameters, rather than rank 0
            those of all.
    """
    rank, world_size = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    writes = "optimizer_states" in header
    parameters: dict[str, torch.Tensor] = {}
    moments: dict[str, Any] = {}
    for index, name in enumerate(state.names):
        mine = rank == (index % world_size if sharded else 0)
        # Each is put together on every rank, one at a time, and kept on one.
        parameter = state.parameter(name)
        moment = state.optimizer_state(name) if writes else {}
        if mine:
            parameters[_PREFIX + name], moments[name] = parameter, moment
    if writes:
        header = {**header, "optimizer_states": [{"param_groups": state.group_settings()}]}
    stale = [*_shards_in_use(path), *_unfinished(path)] if rank == 0 else []
    if sharded:
        names = _write_shards(path, parameters, moments, rank, world_size)
        header = {key: value for key, value in header.items() if key != "state_dict"}
        header["shards"] = names
    else:
        header = {**header, "state_dict": parameters}
        if writes:
            header["optimizer_states"][0]["state"] = moments
    if rank == 0:
        write_atomically(path, lambda temporary: torch.save(header, temporary))
        for shard in stale:
            shard.unlink(missing_ok=True)
    barrier()


def _write_shards(
    path: Path,
    parameters: dict[str, torch.Tensor],
    moments: dict[str, Any],
    rank: int,
    world_size: int,
) -> list[str]:
    """Write this rank's shard, and return the names of all once they are on the disk."""
    token = [uuid.uuid4().hex[:12] if rank == 0 else ""]
    if world_size > 1:
        dist.broadcast_object_list(token)
    names = [f"{path.stem}-{token[0]}-{index}-of-{world_size}.pt" for index in range(world_size)]
    content = {"state_dict": parameters, "optimizer_state": moments}
    write_atomically(
        path.parent / _SHARDS / names[rank], lambda temporary: torch.save(content, temporary)
    )
    barrier()
    return names


def _shards_in_use(path: Path) -> list[Path]:
    """Return the shards beside a checkpoint that bear its name."""
    return sorted((path.parent / _SHARDS).glob(f"{path.stem}-*"))


def _unfinished(path: Path) -> list[Path]:
    """Return what is left of writes of this checkpoint that were cut off."""
    parts = path.parent.glob(f".{path.name}.*.part")
    return [*parts, *(path.parent / _SHARDS).glob(f".{path.stem}-*.part")]


def remove_checkpoint(path: Path) -> None:
    """Remove a checkpoint and its shards."""
    path.unlink(missing_ok=True)
    for shard in _shards_in_use(path):
        shard.unlink(missing_ok=True)


def read_header(path: Path) -> dict[str, Any]:
    """Return what a checkpoint file holds, its tensors not read before they are used.

    Raises:
        UserError: The file, or one of its shards, is not there or not whole.
    """
    try:
        header: dict[str, Any] = _load(path)
        for name in header.get("shards", ()):
            if not (path.parent / _SHARDS / name).is_file():
                raise FileNotFoundError(f"its shard {name} is missing")
    except (OSError, RuntimeError, EOFError, KeyError, ValueError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"the checkpoint {path} cannot be read: {reason}. Start the run anew in another "
            "folder, or copy the checkpoint again, with the folder of its shards"
        ) from error
    return header


def _load(path: Path) -> Any:
    # Ours: it holds random states beside tensors, which are mapped from the file.
    return torch.load(path, map_location="cpu", weights_only=False, mmap=True)


class CheckpointTensors:
    """The tensors of a checkpoint, by parameter.

    Args:
        path: Of the checkpoint file.
        header: What :func:`read_header` returned.
    """

    def __init__(self, path: Path, header: dict[str, Any]) -> None:
        self.parameters: dict[str, torch.Tensor] = {}
        self.moments: dict[str, Any] = {}
        states = header.get("optimizer_states") or [{}]
        self.group_settings: list[dict[str, Any]] | None = states[0].get("param_groups")
        parts = [_load(path.parent / _SHARDS / name) for name in header.get("shards", ())]
        parts.append({**header, "optimizer_state": states[0].get("state", {})})
        for part in parts:
            for name, value in part.get("state_dict", {}).items():
                self.parameters[name.removeprefix(_PREFIX)] = value
            self.moments |= part["optimizer_state"]

    def restore_parameters(self, state: TrainedState) -> None:
        """Set every parameter; all ranks take part.

        Raises:
            UserError: The checkpoint is of another model or method.
        """
        self._check(state)
        for name in state.names:
            state.set_parameter(name, self.parameters[name])

    def restore_optimizer(self, state: TrainedState) -> None:
        """Set the optimizer's state; all ranks take part."""
        self._check(state)
        example = next((item for item in self.moments.values() if item), None)
        if example is not None:
            state.make_room(example)
        for name in state.names:
            state.set_optimizer_state(name, self.moments.get(name, {}))
        assert self.group_settings is not None
        state.set_group_settings(self.group_settings)

    def _check(self, state: TrainedState) -> None:
        if set(self.parameters) != set(state.names):
            odd = sorted(set(self.parameters) ^ set(state.names))
            raise UserError(
                f"the checkpoint is of another model or method: {len(odd)} tensors are only in one "
                f"of the two ({odd[0]}, …)"
            )
