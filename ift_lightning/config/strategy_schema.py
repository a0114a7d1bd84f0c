"""How a model is spread over processes; see ``docs/scaling.md``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING


@dataclass
class StrategyConfig:
    """A strategy; each reads the options that say so."""

    name: str = MISSING
    devices: int = 1  # the default of trainer.devices
    timeout_minutes: float = 60.0  # how long one process may keep the others waiting
    # fsdp: weights are gathered and used in this dtype; None: bfloat16 with precision=bf16_mixed,
    # otherwise their own
    param_dtype: str | None = None
    reduce_dtype: str | None = None  # fsdp: gradients are summed in it; None: float32
    reshard_after_forward: bool = True  # fsdp: gather a layer twice a step instead of keeping it
    cpu_offload: bool = False  # fsdp: shards, gradients and optimizer state in main memory
    stage: int = 2  # deepspeed: ZeRO stage 1, 2 or 3
    offload_optimizer: bool = False  # deepspeed: the optimizer's state in main memory
    offload_parameters: bool = False  # deepspeed, stage 3: weights in main memory
    config: dict[str, Any] = field(default_factory=dict)  # deepspeed: further entries of its own
