"""Composes configs in-process, as an entry point does, without starting one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from ift_lightning.config.entry import (
    allow_new_keys,
    config_dir,
    register_resolvers,
    register_schema,
    to_dataclass,
)
from ift_lightning.config.schema import TrainConfig


def compose_train(*overrides: str, run_dir: Path | str = "outputs/test") -> TrainConfig:
    """Return the training config of a command line."""
    return to_dataclass(compose_train_raw(*overrides, run_dir=run_dir), TrainConfig)


def compose_train_raw(*overrides: str, run_dir: Path | str = "outputs/test") -> Any:
    """Return the composed config before it becomes a dataclass."""
    register_resolvers()
    register_schema("train", TrainConfig)
    arguments = allow_new_keys([*overrides, f"run_dir={run_dir}"], TrainConfig)
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        config = compose("train", overrides=arguments)
    assert OmegaConf.is_config(config)
    return config
