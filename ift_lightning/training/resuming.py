"""What a resumed run needs besides tensors: random states, and where in the data it was."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
import torch.distributed as dist


class RandomStates:
    """States of every generator that training draws from, of all ranks."""

    @staticmethod
    def gather() -> dict[str, Any]:
        """Return the states of all ranks; all ranks take part."""
        own = {
            "python": random.getstate(),
            "numpy": np.random.get_state(),
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
        }
        if not dist.is_initialized() or dist.get_world_size() == 1:
            return {"ranks": [own]}
        gathered: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(gathered, own)
        return {"ranks": gathered}

    @staticmethod
    def restore(states: dict[str, Any], *, step: int) -> None:
        """Set this rank's states.

        A rank that the checkpoint knows nothing of, since the run had fewer then, starts a
        sequence of its own.

        Args:
            states: What :meth:`gather` returned.
            step: Optimizer step at which the run goes on.
        """
        rank = dist.get_rank() if dist.is_initialized() else 0
        if rank >= len(states["ranks"]):
            torch.manual_seed(torch.initial_seed() + 1_000_003 * step + rank)
            return
        own = states["ranks"][rank]
        random.setstate(own["python"])
        np.random.set_state(own["numpy"])
        torch.set_rng_state(own["torch"].clone())
        if own["cuda"] is not None and torch.cuda.is_available():
            torch.cuda.set_rng_state(own["cuda"].clone())


def stretch_positions(checkpoint: dict[str, Any], *, before: int, now: int) -> None:
    """Make a checkpoint's counts of micro-batches those of another way to cut the same steps.

    With another number of processes, a step has another number of micro-batches on each of them.
    Checkpoints are written between steps, so that the counts are whole steps.

    Args:
        checkpoint: Changed in place.
        before: Micro-batches per step and rank when it was written.
        now: The same, now.
    """
    if before == now:
        return

    def stretch(count: int) -> int:
        assert count % before == 0, "a checkpoint inside of a step"
        return count // before * now

    loop = checkpoint["loops"]["fit_loop"]
    for counts in ("total", "current"):
        progress = loop["epoch_loop.batch_progress"][counts]
        for name in progress:
            progress[name] = stretch(progress[name])
    for state in loop["state_dict"].get("combined_loader", []):
        state["position"] = stretch(state["position"])
