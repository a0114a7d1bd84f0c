"""Train one model: ``python -m ift_lightning.train [overrides]``; ``--multirun`` for a sweep."""

from __future__ import annotations

from ift_lightning.config.checks import check_config
from ift_lightning.config.entry import entry_point
from ift_lightning.config.hub_access import go_offline_without_hub
from ift_lightning.config.schema import TrainConfig
from ift_lightning.launching import keep_hydra_quiet_on_other_ranks, run_training
from ift_lightning.sweeps.arguments import sweep_arguments
from ift_lightning.sweeps.running import run_point
from ift_lightning.sweeps.supervision import supervise


@entry_point("train", TrainConfig, arguments=sweep_arguments, around=supervise)
def main(config: TrainConfig) -> float | None:
    """Run the training that ``config`` describes; a sweep's objective is the last ``val/loss``."""
    check_config(config)
    go_offline_without_hub()
    return run_point(config, run_training)


if __name__ == "__main__":
    keep_hydra_quiet_on_other_ranks()
    main()
