"""Data tools: ``python -m ift_lightning.prepare task=NAME input=PATH output=PATH``."""

from __future__ import annotations

from ift_lightning.config.entry import entry_point
from ift_lightning.config.prepare_schema import PrepareConfig
from ift_lightning.errors import NotAvailableYetError, UserError, suggest

_TASKS = ("generate_cot",)
_PLANNED = ("split", "strip_comments", "reverse", "drills", "audit")


@entry_point("prepare", PrepareConfig)
def main(config: PrepareConfig) -> None:
    """Run the tool that ``task`` names."""
    if config.task in _PLANNED:
        raise NotAvailableYetError(f"task={config.task} is not there yet in this version")
    if config.task not in _TASKS:
        raise UserError(f"there is no task={config.task}. {suggest(config.task, _TASKS)}")
    from ift_lightning.cot_generation import run_generate_cot

    run_generate_cot(config)


if __name__ == "__main__":
    main()
