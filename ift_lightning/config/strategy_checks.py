"""What a strategy cannot do, said before anything is loaded or started."""

from __future__ import annotations

from ift_lightning.config.schema import TrainConfig
from ift_lightning.errors import UserError

SHARDING = ("fsdp", "deepspeed")


def check_strategy(config: TrainConfig) -> None:
    """Refuse strategies that cannot work with the other options, on any machine.

    Raises:
        UserError: The pair of options, the reason, and an alternative.
    """
    name, trainer = config.strategy.name, config.trainer
    for key in ("devices", "num_nodes"):
        if getattr(trainer, key) < 1:
            raise UserError(f"trainer.{key}={getattr(trainer, key)} has to be at least 1")
    world_size = trainer.devices * trainer.num_nodes
    if name == "single" and world_size > 1:
        raise UserError(
            f"strategy=single is one process, and trainer.devices={trainer.devices} "
            f"trainer.num_nodes={trainer.num_nodes} ask for more; use strategy=ddp"
        )
    if trainer.global_batch_size % world_size:
        raise UserError(
            f"trainer.global_batch_size={trainer.global_batch_size} cannot be divided evenly among "
            f"{world_size} processes; use a multiple of {world_size}"
        )
    if name != "single" and trainer.accelerator == "mps":
        raise UserError(f"strategy={name}: processes cannot share one mps device; use single")
    if config.strategy.timeout_minutes <= 0:
        raise UserError("strategy.timeout_minutes has to be above 0")
    if name == "deepspeed":
        _check_deepspeed(config)
    if name in SHARDING:
        _check_sharding(config)


def _check_deepspeed(config: TrainConfig) -> None:
    strategy = config.strategy
    if strategy.stage not in (1, 2, 3):
        raise UserError(f"strategy.stage={strategy.stage}: ZeRO has the stages 1, 2 and 3")
    if strategy.offload_parameters and strategy.stage != 3:
        raise UserError(
            f"strategy.offload_parameters=true: at stage {strategy.stage} every process keeps all "
            "weights; use strategy.stage=3"
        )


def _check_sharding(config: TrainConfig) -> None:
    name = config.strategy.name
    if config.precision.quantization is not None:
        raise UserError(
            f"strategy={name} cuts weights into pieces, and the scales of quantized weights "
            f"(precision={config.precision.name}) do not come along: bitsandbytes keeps them in "
            "its own parameter class. Use strategy=ddp, where every process has the quantized "
            "model, or precision=bf16_true"
        )
    target = str((config.peft.config or {}).get("_target_", ""))
    if target.endswith("AdaLoraConfig"):
        raise UserError(
            f"peft=adalora ranks the singular values of whole matrices, of which strategy={name} "
            "leaves each process a part; use strategy=ddp, or peft=lora"
        )
    optimizer = str(config.optimizer.config.get("_target_", ""))
    if optimizer.startswith("bitsandbytes."):
        raise UserError(
            f"optimizer={config.optimizer.name} keeps its state in blocks of 8-bit numbers, which "
            f"strategy={name} cannot cut; use optimizer=adamw, whose state is sharded"
        )
    if name == "fsdp" and config.precision.trainer == "16-mixed":
        raise UserError(
            "strategy=fsdp has no loss scaling for precision=fp16_mixed; use precision=bf16_mixed"
        )


def check_strategy_hardware(
    config: TrainConfig, *, devices: int, num_gpus: int | None, has_deepspeed: bool
) -> None:
    """Refuse what this machine cannot do.

    Args:
        config: The config.
        devices: Processes that share the GPUs here.
        num_gpus: GPUs here; None where the run is on the CPU.
        has_deepspeed: Whether the package is installed.

    Raises:
        UserError: The option, the reason, and an alternative.
    """
    if num_gpus is not None and devices > num_gpus:
        raise UserError(
            f"trainer.devices={devices}, and this machine has {num_gpus}; set "
            f"trainer.devices={num_gpus}, or trainer.accelerator=cpu"
        )
    if config.strategy.name == "deepspeed" and not has_deepspeed:
        raise UserError(
            "strategy=deepspeed needs the package deepspeed, which is not installed: "
            "pip install -c constraints.txt -e '.[deepspeed]'. strategy=fsdp needs nothing more"
        )
