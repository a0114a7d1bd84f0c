"""Loads the model that a command asks for: a run's, a base model, or one with an adapter."""

from __future__ import annotations

import dataclasses
import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ift_lightning import assembly
from ift_lightning.config.evaluate_schema import TrainedModelConfig
from ift_lightning.config.schema import TrainConfig
from ift_lightning.errors import UserError
from ift_lightning.modeling.adapters import load_adapter, peft_type
from ift_lightning.modeling.loading import (
    check_model_folder,
    load_tokenizer,
    weights_fingerprint,
)
from ift_lightning.training.run_record import read_run_record


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """Where the weights are, checked before any is loaded.

    Args:
        base_path: Folder or hub name of the base model, or of a fully tuned one.
        adapter: Folder of the adapter; None for none.
        tokenizer_path: Folder or hub name.
        revision: Of the base model on the hub.
        key: JSON value that identifies the weights.
    """

    base_path: str
    adapter: Path | None
    tokenizer_path: str
    revision: str | None
    key: dict[str, Any]


def choose_model(config: TrainedModelConfig) -> ModelChoice:
    """Return which weights a command asks for.

    Raises:
        UserError: A run without weights, an adapter that is none, or one of another base model.
    """
    if config.run and config.adapter:
        raise UserError("run and adapter exclude each other: a run brings its own adapter")
    model = config.model
    if config.adapter and config.use_adapter:
        adapter = Path(config.adapter).expanduser()
        _check_adapter_folder(adapter, f"adapter={config.adapter}")
        _check_base(config, adapter)
        own_tokenizer = (adapter / "tokenizer.json").is_file()
        tokenizer = str(adapter) if own_tokenizer else model.tokenizer or model.path
        return _choice(config, adapter=adapter, tokenizer=tokenizer)
    if config.run and config.use_adapter:
        return _of_run(config, Path(config.run).expanduser())
    return _choice(config, adapter=None, tokenizer=model.tokenizer or model.path)


def _of_run(config: TrainedModelConfig, run: Path) -> ModelChoice:
    record = read_run_record(run)
    full, adapter = run / "model", run / "adapter"
    if full.is_dir():
        return ModelChoice(str(full), None, str(full), None, full_weights_key(config, full))
    if not adapter.is_dir():
        raise UserError(
            f"run={run} has no adapter (its status is '{record.get('status')}'); finish it with "
            "python -m ift_lightning.train … resume=true hydra.run.dir=FOLDER, or take its "
            "base model with use_adapter=false"
        )
    _check_adapter_folder(adapter, f"run={run}")
    _check_base(config, adapter)
    return _choice(config, adapter=adapter, tokenizer=str(adapter))


def _choice(config: TrainConfig, *, adapter: Path | None, tokenizer: str) -> ModelChoice:
    model = config.model
    return ModelChoice(model.path, adapter, tokenizer, model.revision, weights_key(config, adapter))


def weights_key(config: TrainConfig, adapter: Path | None) -> dict[str, Any]:
    """Return what identifies base weights and adapter in the cache of completions."""
    cache = _cache_folder(config)
    key = {"base": weights_fingerprint(config.model.path, config.model.revision, cache)}
    if adapter is not None:
        # Scales are in the adapter's configuration, not in its weights.
        settings = (adapter / "adapter_config.json").read_text(encoding="utf-8")
        key["adapter"] = weights_fingerprint(str(adapter.resolve()), None, cache)
        key["adapter_config"] = settings
    return key


def full_weights_key(config: TrainConfig, folder: Path) -> dict[str, Any]:
    """Return what identifies fully tuned weights in the cache of completions."""
    return {"base": weights_fingerprint(str(folder.resolve()), None, _cache_folder(config))}


def _cache_folder(config: TrainConfig) -> Path:
    return Path(config.data.cache_dir).expanduser()


def _check_adapter_folder(folder: Path, option: str) -> None:
    if not folder.is_dir():
        raise UserError(f"{option}: there is no folder {folder}")
    weights = ("adapter_model.safetensors", "adapter_model.bin")
    if not (folder / "adapter_config.json").is_file():
        raise UserError(f"{option}: {folder} holds no adapter (no adapter_config.json)")
    if not any((folder / name).is_file() for name in weights):
        raise UserError(
            f"{option}: {folder} has an adapter_config.json and no weights ({' or '.join(weights)})"
        )


def _check_base(config: TrainConfig, adapter: Path) -> None:
    """Refuse an adapter that was trained on other base weights, where that can be known."""
    try:
        record = read_run_record(adapter.resolve().parent)
    except UserError:
        return  # the adapter was moved; its shapes are checked when it is loaded
    trained_on = record.get("model", {}).get("weights_fingerprint")
    path, revision = config.model.path, config.model.revision
    check_model_folder(path, config.model.tokenizer)
    found = weights_fingerprint(path, revision, _cache_folder(config))
    if trained_on is not None and trained_on != found:
        raise UserError(
            f"the adapter in {adapter} was trained on {record['model'].get('name')} "
            f"({record['model'].get('path')}, weights {trained_on}), and model.path={path} has "
            f"weights {found}; an adapter means nothing on another base model"
        )


def load_chosen_tokenizer(config: TrainConfig, choice: ModelChoice) -> Any:
    """Load the tokenizer of a choice; an adapter's own one knows the tokens that were added."""
    model = config.model
    check_model_folder(choice.base_path, choice.tokenizer_path)
    is_base = choice.tokenizer_path == (model.tokenizer or model.path)
    return load_tokenizer(
        choice.tokenizer_path,
        revision=model.revision if is_base and not model.tokenizer else None,
        trust_remote_code=model.trust_remote_code,
        add_tokens=model.add_tokens if is_base else (),
    )


def load_chosen_model(config: TrainConfig, choice: ModelChoice, tokenizer: Any) -> Any:
    """Load the weights of a choice onto the device that the config asks for.

    Raises:
        UserError: The adapter does not fit the base model.
    """
    model_config = dataclasses.replace(
        config.model, path=choice.base_path, revision=choice.revision
    )
    model = assembly.build_base_model(dataclasses.replace(config, model=model_config), tokenizer)
    if choice.adapter is not None:
        model = _with_adapter(model, choice.adapter)
    if not getattr(model, "is_quantized", False):
        model = model.to("cuda" if assembly.runs_on_gpu(config) else "cpu")
    return model.eval()


def _with_adapter(model: Any, folder: Path) -> Any:
    settings = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    trained_on = settings.get("base_model_name_or_path")
    try:
        with warnings.catch_warnings():
            # What PEFT only warns of would leave a part of the adapter as random numbers.
            warnings.filterwarnings("error", ".*missing adapter keys.*")
            adapted = load_adapter(model, folder)
    except (RuntimeError, ValueError, KeyError, UserWarning) as error:
        if isinstance(error, UserError):
            raise
        reason = next((line.strip() for line in str(error).splitlines()[1:] if line.strip()), "")
        raise UserError(
            f"the adapter in {folder} does not fit this {model.config.model_type} model: "
            f"{reason or str(error)[:200]}. It was trained on '{trained_on}'"
        ) from error
    assert peft_type(adapted) is not None
    return adapted
