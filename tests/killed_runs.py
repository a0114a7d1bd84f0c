"""Runs that are killed at a given moment, and checks that two checkpoints are the same."""

from __future__ import annotations

import io
import os
import random
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from strategy_runs import STRATEGIES, build

from ift_lightning.errors import StoppedBySignal
from ift_lightning.training import checkpoints
from ift_lightning.training.callbacks.progress import is_step_end
from ift_lightning.training.checkpoints import CheckpointTensors, read_header
from ift_lightning.training.ranks import Ranks
from ift_lightning.training.run import TrainingRun
from ift_lightning.training.strategies import StrategySettings

NUM_STEPS = 7
SAVE_EVERY = 2


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class KillAt(Callback):
    """Kills this process, or has it ask itself to stop, at a moment of training."""

    def __init__(self, moment: str, step: int, sent: int = signal.SIGKILL) -> None:
        self.moment = moment
        self.step = step
        self.sent = sent

    def _strike(self) -> None:
        os.kill(os.getpid(), self.sent)

    def on_train_batch_start(
        self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        # In front of the last micro-batch of the step: gradients of the others are there.
        now = trainer.global_step == self.step and is_step_end(trainer, batch_idx)
        if self.moment == "micro-batch" and now:
            self._strike()

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        if self.moment == "optimizer" and trainer.global_step == self.step:
            self._strike()

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self.moment == "step" and trainer.global_step == self.step + 1:
            self._strike()

    def on_validation_batch_start(self, trainer: Any, *arguments: Any) -> None:
        if self.moment == "validation" and trainer.global_step >= self.step:
            self._strike()


def kill_while_writing(moment: str, count: int) -> None:
    """Have the process die at the ``count``-th time that it writes a checkpoint file.

    Args:
        moment: "half": half of the bytes are written. "flushed": all are, under another name.
            "renamed": the file is in place, and what follows is not done.
        count: Files written, shards among them.
    """
    written = 0
    whole_write, flush = checkpoints.write_atomically, checkpoints._flush

    def save(content: Any, path: Any) -> None:
        buffer = io.BytesIO()
        torch.save(content, buffer)
        data = buffer.getvalue()
        if moment == "half" and written == count:
            Path(path).write_bytes(data[: len(data) // 2])
            die()
        Path(path).write_bytes(data)

    def flush_or_die(path: Path) -> None:
        flush(path)
        if moment == "flushed" and written == count and path.name.endswith(".part"):
            die()

    def write(path: Path, fill: Any) -> None:
        nonlocal written
        written += 1
        whole_write(path, lambda temporary: fill(temporary))
        if moment == "renamed" and written == count:
            die()

    class Torch:
        """Stands in the place of ``torch`` in that module."""

        def __getattr__(self, name: str) -> Any:
            return save if name == "save" else getattr(torch, name)

    checkpoints.torch = Torch()
    checkpoints._flush = flush_or_die
    checkpoints.write_atomically = write


class WrittenLosses(Callback):
    """Appends the loss of every step to a file, exactly, however often the run is started."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if is_step_end(trainer, batch_idx):
            loss = float(trainer.strategy.reduce(pl_module.step_loss, reduce_op="sum"))
            if trainer.is_global_zero:
                with self.path.open("a") as stream:
                    stream.write(f"{trainer.global_step} {loss.hex()}\n")


def prepare(
    folder: Path,
    *,
    method: str = "lora",
    ranks: Ranks | None = None,
    strategy: str | None = None,
    seed: int = 5,
    dropout: float = 0.2,
    callbacks: tuple[Callback, ...] = (),
    **options: Any,
) -> TrainingRun:
    """Return a run with dropout, whose generators start elsewhere with another ``seed``."""
    folder.mkdir(parents=True, exist_ok=True)
    run = build(
        folder,
        method=method,
        ranks=ranks,
        strategy=STRATEGIES[strategy] if strategy else StrategySettings(),
        dropout=dropout,
        num_steps=NUM_STEPS,
        save_every_n_steps=SAVE_EVERY,
        val_every_n_steps=3,
        log_every_n_steps=4,
        micro_batch_size=options.pop("micro_batch_size", 1),
        callbacks=(*callbacks, WrittenLosses(folder / "losses.txt")),
        **options,
    )
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)
    return run


def losses_of(folder: Path) -> dict[int, float]:
    """Return the loss of every step; a step that was made twice had the same one twice."""
    losses: dict[int, float] = {}
    for line in (folder / "losses.txt").read_text().splitlines():
        step, text = line.split()
        loss = float.fromhex(text)
        assert losses.setdefault(int(step), loss) == loss, f"step {step} came out differently"
    return losses


def everything_in(folder: Path, name: str = "last") -> dict[str, Any]:
    """Return all that a checkpoint holds that a run reads, but for times and the run's folder."""
    path = folder / "checkpoints" / f"{name}.ckpt"
    header = read_header(path)
    tensors = CheckpointTensors(path, header)
    header = {
        key: value
        for key, value in header.items()
        if key not in ("state_dict", "optimizer_states", "shards")
    }
    content = {
        "header": header,
        "parameters": tensors.parameters,
        "moments": tensors.moments,
        "groups": tensors.group_settings,
    }
    cleaned: dict[str, Any] = _without_times(content, str(folder))
    return cleaned


def _without_times(value: Any, folder: str) -> Any:
    if isinstance(value, dict):
        return {
            (key.replace(folder, "") if isinstance(key, str) else key): _without_times(item, folder)
            for key, item in value.items()
            # Lightning writes the score of its last save, and neither reads nor restores it.
            if key not in ("train_seconds", "logged", "current_score")
        }
    if isinstance(value, list | tuple):
        return [_without_times(item, folder) for item in value]
    if isinstance(value, np.ndarray):
        return value.tolist()
    return value.replace(folder, "") if isinstance(value, str) else value


def differences(first: Any, second: Any, where: str = "") -> list[str]:
    """Return where two nested values differ, bit for bit."""
    if isinstance(first, torch.Tensor) and isinstance(second, torch.Tensor):
        return [] if torch.equal(first, second) else [where]
    if isinstance(first, dict) and isinstance(second, dict):
        found = [f"{where}.{key} is in one only" for key in first.keys() ^ second.keys()]
        for key in first.keys() & second.keys():
            found += differences(first[key], second[key], f"{where}.{key}")
        return found
    if isinstance(first, list) and isinstance(second, list):
        if len(first) != len(second):
            return [f"{where}: lengths"]
        return [
            text
            for index, (one, other) in enumerate(zip(first, second, strict=True))
            for text in differences(one, other, f"{where}[{index}]")
        ]
    same = first == second or (first != first and second != second)
    return [] if same else [f"{where}: {first!r} and {second!r}"]


def train_on_ranks(ranks: Ranks, runs: list[dict[str, Any]]) -> None:
    """Train on this rank, one run after the other; what a signal stops is left as it is."""
    for run in runs:
        if len(runs) == 1:
            _train_on_rank(ranks, **run)
            continue
        with suppress(StoppedBySignal):
            _train_on_rank(ranks, **run)


def _train_on_rank(
    ranks: Ranks,
    folder: str,
    *,
    strategy: str,
    method: str = "lora",
    kill_rank: int | None = None,
    moment: str = "",
    count: int = 0,
    seed: int = 5,
    sent: int = signal.SIGKILL,
    dropout: float = 0.2,
) -> None:
    """Train on this rank, going on where a checkpoint is."""
    callbacks: tuple[Callback, ...] = ()
    if kill_rank == ranks.rank:
        if moment in ("half", "flushed", "renamed"):
            kill_while_writing(moment, count)
        else:
            callbacks = (KillAt(moment, count, sent),)
    run = prepare(
        Path(folder),
        method=method,
        ranks=ranks,
        strategy=strategy,
        seed=seed + ranks.rank,
        callbacks=callbacks,
        dropout=dropout,
    )
    run.fit(resume=run.last_checkpoint.is_file())
