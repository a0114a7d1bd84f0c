"""What a config will cost: ``python -m ift_lightning.plan [overrides] [output=FILE.json]``."""

from __future__ import annotations

from ift_lightning.config.checks import check_config
from ift_lightning.config.entry import entry_point, register_schema
from ift_lightning.config.hub_access import go_offline_without_hub
from ift_lightning.config.schema import PlanConfig, TrainConfig

register_schema("train", TrainConfig)


@entry_point("plan", PlanConfig)
def main(config: PlanConfig) -> None:
    """Print parameters, memory, tokens, steps and time of a training run; load no weights."""
    check_config(config)
    go_offline_without_hub()
    from ift_lightning.planning import plan

    plan(config)


if __name__ == "__main__":
    main()
