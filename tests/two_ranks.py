"""Runs a function of the tests in two real processes that talk over gloo."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any

from ift_lightning.training.launcher import free_port, launch, rank_main
from ift_lightning.training.ranks import Ranks, ranks_of_environment, start_process_group


def on_two_ranks(function: str, arguments: dict[str, Any], log_folder: Path, count: int = 2) -> Any:
    """Return what ``module:function`` gives on rank 0, called on all ranks with ``arguments``."""
    port = free_port()
    paths = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([*paths, before] if before else paths)
    try:
        return launch(
            (function, arguments),
            module="two_ranks",
            ranks=[Ranks(rank, count, rank, count, main_port=port) for rank in range(count)],
            log_folder=log_folder,
        )
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


def _call(task: tuple[str, dict[str, Any]]) -> Any:
    (place, arguments) = task
    module, _, name = place.partition(":")
    ranks = ranks_of_environment(os.environ)
    assert ranks is not None
    start_process_group(ranks, on_gpu=False, timeout_minutes=1.5)
    return getattr(importlib.import_module(module), name)(ranks, **arguments)


if __name__ == "__main__":
    rank_main(_call)
