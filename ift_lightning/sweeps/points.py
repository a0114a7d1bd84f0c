"""The points of a sweep, each composed before the first of them runs."""

from __future__ import annotations

import copy
import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf, flag_override, open_dict

from ift_lightning.config.entry import to_dataclass
from ift_lightning.config.schema import TrainConfig

SWEEP_FILE = "sweep.json"


@dataclass(frozen=True)
class Point:
    """A point of a sweep.

    Args:
        name: Its folder's name, made of the options that differ.
        folder: Where it runs.
        overrides: What tells it from the others.
        config: Its composed config.
        tree: The same, unresolved, as ``.hydra/config.yaml`` has it.
    """

    name: str
    folder: Path
    overrides: tuple[str, ...]
    config: TrainConfig
    tree: dict[str, Any]


def compose_points(master: DictConfig) -> list[Point] | None:
    """Compose every point.

    Args:
        master: The sweep's own config, with its ``hydra`` part.

    Returns:
        The points in order; None where the sweeper decides on them as it goes, as searches do.
    """
    if not str(master.hydra.sweeper.get("_target_", "")).endswith(".BasicSweeper"):
        return None
    loader = GlobalHydra.instance().config_loader()
    params = master.hydra.sweeper.get("params") or {}
    words = [f"{key}={value}" for key, value in params.items()]
    words += [str(word) for word in master.hydra.overrides.task]
    parsed = OverridesParser.create(config_loader=loader).parse_overrides(words)
    (batch,) = BasicSweeper.split_arguments(parsed, None)
    return [
        _compose(loader.load_sweep_config(master, list(overrides)), number)
        for number, overrides in enumerate(batch)
    ]


def _compose(config: DictConfig, number: int) -> Point:
    with open_dict(config):
        config.hydra.job.num = number
        config.hydra.job.id = f"{config.hydra.job.name}_{number}"
    folder = Path(config.hydra.sweep.dir) / str(config.hydra.sweep.subdir)
    with open_dict(config.hydra.runtime):
        config.hydra.runtime.output_dir = str(folder.absolute())
    overrides = tuple(str(word) for word in config.hydra.overrides.task)
    shared = HydraConfig.instance()
    before = shared.cfg
    shared.set_config(config)  # ${hydra:…} in the config's values looks here
    try:
        task = copy.deepcopy(config)
        with flag_override(task, ["struct", "readonly"], [False, False]):
            del task["hydra"]
        tree = OmegaConf.to_container(task, resolve=False)
        assert isinstance(tree, dict)
        typed = to_dataclass(task, TrainConfig)
    finally:
        shared.cfg = before
    return Point(folder.name, folder, overrides, typed, {str(k): v for k, v in tree.items()})


def write_sweep_file(folder: Path, command: str, points: Sequence[Point] | None) -> None:
    """Write ``sweep.json``: the command, and the folder and overrides of every point."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "command": command,
        "started_at": time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime()),
        "points": None
        if points is None
        else [{"folder": point.name, "overrides": list(point.overrides)} for point in points],
    }
    path = folder / SWEEP_FILE
    temporary = path.with_suffix(f".{os.getpid()}.part")
    temporary.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    temporary.replace(path)
