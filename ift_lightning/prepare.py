"""Data tools: ``python -m ift_lightning.prepare task=NAME input=PATH output=PATH [options]``."""

from __future__ import annotations

import sys

from ift_lightning.config.entry import entry_point, register_schema
from ift_lightning.config.hub_access import go_offline_without_hub
from ift_lightning.config.prepare_schema import PrepareConfig, register_tasks, task_option
from ift_lightning.config.schema import TrainConfig

register_schema("train", TrainConfig)
register_tasks()


@entry_point("prepare", PrepareConfig)
def main(config: PrepareConfig) -> None:
    """Run one data tool."""
    go_offline_without_hub()
    from ift_lightning.preparing import prepare

    prepare(config)


if __name__ == "__main__":
    sys.argv[1:] = [task_option(word) for word in sys.argv[1:]]
    main()
