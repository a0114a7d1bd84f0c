"""Turns a checkpoint into an adapter or weights, however many processes wrote it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from ift_lightning import assembly, budgets
from ift_lightning.config.entry import register_resolvers, to_dataclass
from ift_lightning.config.schema import PrecisionConfig, TrainConfig
from ift_lightning.errors import UserError
from ift_lightning.modeling.adalora import AdaLoraController
from ift_lightning.modeling.adapters import peft_type, save_adapter
from ift_lightning.training.checkpoints import CheckpointTensors, read_header
from ift_lightning.training.run_record import read_run_record
from ift_lightning.training.trained_state import TrainedState


def export_checkpoint(run: Path, name: str, folder: Path) -> None:
    """Save a checkpoint's adapter, or whole weights where all were trained.

    Args:
        run: Run folder, of a run that need not have ended.
        name: "best" or "last".
        folder: Written to.

    Raises:
        UserError: There is no such checkpoint, or it cannot be read.
    """
    path = run / "checkpoints" / f"{name}.ckpt"
    if not path.is_file():
        there = sorted(item.stem for item in path.parent.glob("*.ckpt"))
        raise UserError(
            f"checkpoint={name}: {run} has no such checkpoint; it has {', '.join(there) or 'none'}"
        )
    header = read_header(path)
    config = _config_of(run)
    tokenizer = assembly.build_tokenizer(config)
    num_steps = _num_steps(run)
    config, _ = budgets.with_budgeted_size(config, tokenizer, num_steps)
    model = assembly.build_model(config, tokenizer, num_steps)
    CheckpointTensors(path, header).restore_parameters(TrainedState(model))
    if peft_type(model) == "ADALORA":
        AdaLoraController(model).prepare_export()
    save_adapter(model, tokenizer, folder, base_path=config.model.path)


def _config_of(run: Path) -> TrainConfig:
    """Return a run's config, changed to build its model on the CPU and in full precision."""
    register_resolvers()
    path = run / ".hydra" / "config.yaml"
    try:
        composed = OmegaConf.load(path)
    except FileNotFoundError:
        raise UserError(f"{run} is no run folder: it has no .hydra/config.yaml") from None
    merged = OmegaConf.merge(OmegaConf.structured(TrainConfig), composed, {"run_dir": str(run)})
    assert OmegaConf.is_dict(merged)
    config = to_dataclass(merged, TrainConfig)  # type: ignore[arg-type]
    config.trainer.accelerator = "cpu"
    # An adapter's shapes are the same over quantized weights and over plain ones.
    config.precision = PrecisionConfig(name="fp32")
    return config


def _num_steps(run: Path) -> int:
    """Return the optimizer steps planned for a run, which AdaLoRA's settings ask for."""
    budget: dict[str, Any] = read_run_record(run)["data"]["budget"]
    return int(budget.get("num_steps") or budgets.MANY_STEPS)
