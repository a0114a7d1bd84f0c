"""Commands that belong to the design but that this version does not have."""

from __future__ import annotations

import sys
from typing import NoReturn


def refuse_command(name: str, purpose: str, instead: str) -> NoReturn:
    """Say that a command is not there yet, and exit with status 1.

    Args:
        name: Module name of the command.
        purpose: What it will do.
        instead: What can be done today.
    """
    print(
        f"error: python -m ift_lightning.{name} ({purpose}) is not there yet in this version. "
        f"{instead}",
        file=sys.stderr,
    )
    sys.exit(1)
