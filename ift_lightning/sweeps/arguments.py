"""Turns what is typed into what Hydra understands: ``seeds=N``, and readable folders of points.

Nothing here may import ``torch``: it runs before the config is composed.
"""

from __future__ import annotations

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from ift_lightning.errors import UserError

_MULTIRUN_FLAGS = ("--multirun", "-m")


def sweep_arguments(arguments: list[str]) -> list[str]:
    """Return the command line for Hydra.

    ``seeds=3`` becomes ``seed=0,1,2``. Options that are the same for all points are left out of the
    names of the points' folders, which are then ``peft=lora,seed=0`` and not numbers: a folder
    keeps its meaning when an arm is added.

    Args:
        arguments: Words after the program's name.

    Raises:
        UserError: ``seeds`` is no number of seeds, or ``seed`` is given beside it.
    """
    expanded = _expand_seeds(arguments)
    constant = [
        override.key_or_group
        for override in _parse([word for word in expanded if not word.startswith("-")])
        if not override.is_sweep_override() and not override.is_delete()
    ]
    hydra_keys = ("hydra.", "hydra/")
    names = ["experiment", *(key for key in constant if not key.startswith(hydra_keys))]
    quoted = ",".join(f"'{name}'" for name in dict.fromkeys(names))
    # Among the other overrides: argparse does not take them on both sides of a flag.
    end = 1 + max((i for i, word in enumerate(expanded) if _is_override(word)), default=-1)
    end = end or len(expanded)
    left_out = f"hydra.job.config.override_dirname.exclude_keys=[{quoted}]"
    return [*expanded[:end], left_out, *expanded[end:]]


def _is_override(word: str) -> bool:
    return not word.startswith("-") and bool(_parse([word]))


def _parse(words: list[str]) -> list[Override]:
    """Parse overrides; a word that is none is left for Hydra to complain about."""
    parser = OverridesParser.create()
    found: list[Override] = []
    for word in words:
        try:
            found += parser.parse_overrides([word])
        except HydraException:
            continue
    return found


def _expand_seeds(arguments: list[str]) -> list[str]:
    given = [word for word in arguments if word.startswith("seeds=")]
    if not given:
        return list(arguments)
    text = given[-1].removeprefix("seeds=")
    if not text.isdecimal() or int(text) < 1:
        raise UserError(
            f"seeds={text} is to be a number of seeds, such as seeds=3; name single ones with "
            "seed=0,1,2"
        )
    if any(word.startswith("seed=") for word in arguments):
        raise UserError("seeds=N and seed=… are given both; seeds=3 is short for seed=0,1,2")
    seeds = ",".join(str(seed) for seed in range(int(text)))
    is_sweep = any(word in _MULTIRUN_FLAGS for word in arguments)
    mode = [] if is_sweep or "," not in seeds else ["hydra.mode=MULTIRUN"]
    last = max(i for i, word in enumerate(arguments) if word in given)
    before = [word for word in arguments[:last] if word not in given]
    return [*before, f"seed={seeds}", *mode, *arguments[last + 1 :]]
