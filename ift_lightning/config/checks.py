"""Pairs of options that cannot work together, refused before any weight is loaded.

These checks need no ``torch``. What depends on the machine is in ``check_hardware``, which is
told about the machine instead of looking itself.
"""

from __future__ import annotations

from dataclasses import dataclass

from ift_lightning.config.budget_checks import check_budget
from ift_lightning.config.schema import DataSource, TrainConfig
from ift_lightning.config.strategy_checks import check_strategy, check_strategy_hardware
from ift_lightning.errors import UserError, suggest
from ift_lightning.types import NO_REASONING, REASONING_LEVELS

_ACCELERATORS = ("auto", "cpu", "gpu", "cuda", "mps")


def check_config(config: TrainConfig, *, trains: bool = True) -> None:
    """Refuse what cannot work on any machine.

    Args:
        config: The composed config.
        trains: Whether it is for training; a benchmark has no rows for that.

    Raises:
        UserError: The pair of options, the reason, and an alternative.
    """
    _check_data(config, trains)
    _check_method(config)
    _check_trainer(config)
    _check_levels(config)
    check_budget(config)
    if trains:
        check_strategy(config)


def _check_data(config: TrainConfig, trains: bool) -> None:
    data = config.data
    if data.source is DataSource.files and not data.path:
        raise UserError(f"data={data.name} needs a file or folder: data.path=FILE")
    for name in ("num_train", "num_val", "num_test"):
        value = getattr(data, name)
        if value is not None and value < (1 if name == "num_train" else 0):
            raise UserError(f"data.{name}={value} is too few rows; null takes all there are")
    if data.name == "humaneval" and trains:
        raise UserError(
            "data=humaneval is a benchmark and has no rows to train on; train on other rows, such "
            "as data=code_alpaca, and score on HumanEval afterwards"
        )
    if data.max_seq_length < 2:
        raise UserError(f"data.max_seq_length={data.max_seq_length} leaves no room for an answer")
    reverse_template = config.template.name == "reverse_instruction"
    if reverse_template and config.data_variant.name != "reverse":
        raise UserError(
            f"template=reverse_instruction asks for the instruction behind a response, and "
            f"data_variant={config.data_variant.name} does not turn the rows around; leave "
            "data_variant out, or use template=alpaca"
        )
    if config.data_variant.name == "reverse" and config.cot_level.name != "none":
        raise UserError("data_variant=reverse has no reasoning of its own; use cot_level=none")


def _check_levels(config: TrainConfig) -> None:
    levels = config.data.require_levels
    valid = (NO_REASONING, *REASONING_LEVELS)
    for level in levels:
        if level not in valid:
            raise UserError(f"data.require_levels: no level '{level}'. {suggest(level, valid)}")
    if len(set(levels)) < len(levels):
        raise UserError(f"data.require_levels=[{','.join(levels)}] names a level twice")
    if config.data_variant.name == "reverse" and set(levels) - {NO_REASONING}:
        raise UserError(
            "data_variant=reverse has no reasoning of its own; leave data.require_levels out"
        )


def _check_method(config: TrainConfig) -> None:
    quantized = config.precision.quantization is not None
    if config.peft.config is None and quantized:
        raise UserError(
            f"peft={config.peft.name} trains every weight, and precision={config.precision.name} "
            "keeps them quantized; use peft=qlora, or precision=bf16_true"
        )
    target = str((config.peft.config or {}).get("_target_", ""))
    if target.endswith("PrefixTuningConfig") and config.trainer.gradient_checkpointing:
        raise UserError(
            "peft=prefix hands keys and values to the model through its cache, which gradient "
            "checkpointing recomputes without; set trainer.gradient_checkpointing=false, or use "
            "peft=ptuning or peft=prompt"
        )
    if config.peft.name == "qlora" and not quantized:
        # An explicit precision wins over the one that qlora brings along. It is LoRA then.
        config.peft.name = "lora"


def _check_trainer(config: TrainConfig) -> None:
    trainer = config.trainer
    if not 0 <= config.seed < 2**32:
        raise UserError(f"seed={config.seed} has to be at least 0 and below 2**32")
    if trainer.accelerator not in _ACCELERATORS:
        meant = suggest(trainer.accelerator, _ACCELERATORS)
        raise UserError(f"trainer.accelerator={trainer.accelerator}: {meant}")
    if trainer.max_steps is not None and trainer.max_steps < 1:
        raise UserError(f"trainer.max_steps={trainer.max_steps} has to be at least 1")
    if trainer.max_steps is None and trainer.max_epochs <= 0:
        raise UserError(f"trainer.max_epochs={trainer.max_epochs} has to be above 0")
    for name in ("global_batch_size", "micro_batch_size", "eval_batch_size", "log_every_n_steps"):
        if getattr(trainer, name) < 1:
            raise UserError(f"trainer.{name}={getattr(trainer, name)} has to be at least 1")
    for name in ("val_every_n_steps", "save_every_n_steps", "num_threads"):
        value = getattr(trainer, name)
        if value is not None and value < 1:
            raise UserError(f"trainer.{name}={value} has to be at least 1, or null")
    if config.optimizer.lr <= 0:
        raise UserError(f"optimizer.lr={config.optimizer.lr} has to be above 0")


@dataclass(frozen=True)
class Machine:
    """What a machine can do, as far as options depend on it."""

    has_gpu: bool
    has_flash_attention: bool = False
    has_bitsandbytes: bool = True
    has_wandb: bool = True
    gpu_has_bf16: bool = True
    num_gpus: int = 1  # where there are any
    has_deepspeed: bool = True


def check_hardware(config: TrainConfig, machine: Machine, *, devices: int | None = None) -> None:
    """Refuse what this machine cannot do.

    Args:
        config: The config.
        machine: What it runs on.
        devices: Processes that share the GPUs this one sees; None for ``trainer.devices``.

    Raises:
        UserError: The option, the reason, and an alternative.
    """
    on_gpu = machine.has_gpu and config.trainer.accelerator in ("auto", "gpu", "cuda")
    check_strategy_hardware(
        config,
        devices=config.trainer.devices if devices is None else devices,
        num_gpus=machine.num_gpus if on_gpu else None,
        has_deepspeed=machine.has_deepspeed,
    )
    if config.trainer.accelerator in ("gpu", "cuda") and not machine.has_gpu:
        raise UserError(
            f"trainer.accelerator={config.trainer.accelerator}: torch sees no GPU here; use "
            "trainer.accelerator=cpu, or install the CUDA build of torch"
        )
    if config.attention.implementation == "flash_attention_2":
        if not on_gpu:
            raise UserError(
                "attention=flash_attention_2 runs on NVIDIA GPUs only, and this run is on the "
                "CPU; use attention=sdpa"
            )
        if not machine.has_flash_attention:
            raise UserError(
                "attention=flash_attention_2 needs the package flash-attn, which is not "
                "installed; use attention=sdpa, which brings flash kernels of its own"
            )
        if config.precision.name == "fp32":
            raise UserError(
                "attention=flash_attention_2 computes in 16 bits, and precision=fp32 does not; "
                "use precision=bf16_mixed, or attention=sdpa"
            )
    if config.precision.trainer == "16-mixed" and not on_gpu:
        raise UserError(
            "precision=fp16_mixed saves nothing on a CPU, which has no fast fp16, and loses "
            "range; use precision=bf16_mixed or precision=fp32"
        )
    if config.precision.quantization is not None and not machine.has_bitsandbytes:
        raise UserError(
            f"precision={config.precision.name} needs the package bitsandbytes, which cannot be "
            "imported here; use precision=bf16_true"
        )
    targets = [str(item.get("_target_", "")) for item in config.logger.loggers.values()]
    if not machine.has_wandb and any(target.endswith(".WandbLogger") for target in targets):
        raise UserError(
            f"logger={config.logger.name} needs the package wandb, which is not installed: "
            "pip install -c constraints.txt -e '.[wandb]'; or use logger=tensorboard"
        )
    in_int8 = bool((config.precision.quantization or {}).get("load_in_8bit"))
    if in_int8 and (config.peft.config or {}).get("use_dora") and not on_gpu:
        raise UserError(
            f"peft={config.peft.name} with precision={config.precision.name} needs a GPU: on a CPU "
            "PEFT's DoRA loses the scales of int8 weights at the first step; use precision=nf4 or "
            "precision=fp32, or peft=lora"
        )
    if on_gpu and not machine.gpu_has_bf16 and "bf16" in config.precision.name:
        raise UserError(
            f"precision={config.precision.name}: this GPU has no bf16; use precision=fp16_mixed"
        )
