"""Takes over the options of a run, so that its model is used the way it was trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from ift_lightning.config.entry import config_dir
from ift_lightning.errors import UserError

_OWN = ("run_dir", "name", "resume", "evaluate", "measure_before")
"""Options that belong to a command, not to what it is about."""


def take_over_run(config: DictConfig) -> DictConfig:
    """Return the config with the options of ``run=FOLDER``; those of the command line win.

    Raises:
        UserError: The folder is no run's.
    """
    if not config.get("run"):
        return config
    given = HydraConfig.get().overrides.task if HydraConfig.initialized() else []
    return with_run_options(config, Path(str(config.run)).expanduser(), list(given))


def with_run_options(config: DictConfig, run: Path, overrides: list[str]) -> DictConfig:
    """Return ``config`` with the options of a run.

    An option group that the command line names is the command line's as a whole; a single value
    replaces the run's. A group that another one brought along stays the run's: ``data=defects``
    asks a model for defects in the template that it was trained with.

    Args:
        config: Composed config of the command.
        run: Run folder.
        overrides: The command line.
    """
    path = run / ".hydra" / "config.yaml"
    if not run.is_dir():
        raise UserError(f"run={run}: there is no such folder")
    try:
        trained = OmegaConf.load(path)
    except FileNotFoundError:
        raise UserError(
            f"run={run} is no run folder: it has no .hydra/config.yaml; give the folder that "
            "training printed as its run folder"
        ) from None
    except (OSError, ValueError, OmegaConfBaseException) as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    assert isinstance(trained, DictConfig)
    keys = [word.lstrip("+~").partition("=")[0] for word in overrides]
    groups = {path.name for path in config_dir().iterdir() if path.is_dir()}
    chosen = {key for key in keys if key in groups}
    result = _values(config)
    for name, value in _values(trained).items():
        if name not in _OWN and name not in chosen and name in result:
            result[name] = value
    merged = OmegaConf.merge(OmegaConf.structured(OmegaConf.get_type(config)), result)
    assert isinstance(merged, DictConfig)
    for key in keys:
        # Single values of the command line, and what `+` added.
        if key not in groups and not key.startswith("hydra") and "/" not in key:
            with open_dict(merged):
                value = OmegaConf.select(config, key)
                OmegaConf.update(merged, key, value, merge=False, force_add=True)
    return merged


def _values(config: DictConfig) -> dict[str, Any]:
    values = OmegaConf.to_container(config, resolve=False)
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}
