"""One process of a run in several: ``python -m ift_lightning.rank``, started by the run itself."""

from __future__ import annotations

import os

from ift_lightning.config.hub_access import go_offline_without_hub
from ift_lightning.launching import RankTask
from ift_lightning.training.launcher import rank_main
from ift_lightning.training.ranks import ranks_of_environment


def run_rank(task: RankTask) -> float | None:
    """Take part in a run; return its ``val/loss``."""
    go_offline_without_hub()
    from ift_lightning.finetuning import train_rank

    ranks = ranks_of_environment(os.environ)
    assert ranks is not None
    return train_rank(task.config, ranks, task.overrides, shares_folder=task.shares_folder)


if __name__ == "__main__":
    rank_main(run_rank)
