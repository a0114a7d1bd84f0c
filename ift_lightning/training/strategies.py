"""Lightning strategies that all give the same numbers and write the same checkpoints.

Lightning's own differ in what a checkpoint is, and some refuse CPUs, on which every one of them
can be proven with two processes.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.pytorch.plugins.precision import DeepSpeedPrecision
from lightning.pytorch.strategies import (
    DDPStrategy,
    DeepSpeedStrategy,
    ModelParallelStrategy,
    SingleDeviceStrategy,
    Strategy,
)
from torch.distributed.fsdp import FSDPModule

from ift_lightning.training.checkpoints import (
    CheckpointTensors,
    read_header,
    remove_checkpoint,
    write_checkpoint,
)
from ift_lightning.training.ranks import Ranks
from ift_lightning.training.sharding import ShardingOptions
from ift_lightning.training.trained_state import DeepSpeedState, TrainedState


@dataclass(frozen=True)
class StrategySettings:
    """How a model is spread over processes.

    Args:
        name: "single", "ddp", "fsdp" or "deepspeed".
        sharding: Of "fsdp".
        stage: ZeRO stage of "deepspeed": 1 shards the optimizer's state, 2 gradients too, 3
            weights too.
        offload_optimizer: DeepSpeed keeps the optimizer's state in main memory.
        offload_parameters: DeepSpeed keeps weights in main memory (stage 3).
        deepspeed_config: Further entries of DeepSpeed's configuration, which go first.
        timeout_minutes: How long a rank may keep the others waiting.
    """

    name: str = "single"
    sharding: ShardingOptions = field(default_factory=ShardingOptions)
    stage: int = 2
    offload_optimizer: bool = False
    offload_parameters: bool = False
    deepspeed_config: dict[str, Any] = field(default_factory=dict)
    timeout_minutes: float = 60.0


class StartedRanks(ClusterEnvironment):
    """Tells Lightning about processes that were started before it was asked."""

    def __init__(self, ranks: Ranks) -> None:
        super().__init__()
        self.ranks = ranks

    @property
    def creates_processes_externally(self) -> bool:
        return True

    @property
    def main_address(self) -> str:
        return self.ranks.main_address

    @property
    def main_port(self) -> int:
        return self.ranks.main_port

    @staticmethod
    def detect() -> bool:
        return False

    def world_size(self) -> int:
        return self.ranks.world_size

    def set_world_size(self, size: int) -> None:
        assert size == self.ranks.world_size

    def global_rank(self) -> int:
        return self.ranks.rank

    def set_global_rank(self, rank: int) -> None:
        assert rank == self.ranks.rank

    def local_rank(self) -> int:
        return self.ranks.local_rank

    def node_rank(self) -> int:
        return self.ranks.node_rank


class PortableCheckpoints(Strategy):
    """Checkpoints of whole tensors by name; see :mod:`ift_lightning.training.checkpoints`."""

    writes_shards = False
    _opened: CheckpointTensors | None = None

    def trained_state(self, *, with_optimizer: bool) -> TrainedState:
        """Return access to what is trained."""
        assert self.lightning_module is not None
        optimizer = self.optimizers[0] if with_optimizer else None
        return TrainedState(self.lightning_module.model, optimizer)  # type: ignore[arg-type]

    @property
    def restore_checkpoint_after_setup(self) -> bool:
        return True

    @property
    def lightning_restore_optimizer(self) -> bool:
        return True

    def lightning_module_state_dict(self) -> dict[str, Any]:
        return {}  # save_checkpoint collects it

    def optimizer_state(self, optimizer: Any) -> dict[str, Any]:
        return {}

    def save_checkpoint(
        self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any = None
    ) -> None:
        with_optimizer = "optimizer_states" in checkpoint
        write_checkpoint(
            Path(filepath),
            checkpoint,
            self.trained_state(with_optimizer=with_optimizer),
            sharded=self.writes_shards,
        )

    def load_checkpoint(
        self, checkpoint_path: Any, weights_only: bool | None = None
    ) -> dict[str, Any]:
        header = read_header(Path(checkpoint_path))
        self._opened = CheckpointTensors(Path(checkpoint_path), header)
        return header

    def load_model_state_dict(self, checkpoint: Any, strict: bool = True) -> None:
        assert self._opened is not None
        self._opened.restore_parameters(self.trained_state(with_optimizer=False))

    def load_optimizer_state_dict(self, checkpoint: Any) -> None:
        assert self._opened is not None
        self._opened.restore_optimizer(self.trained_state(with_optimizer=True))
        self._opened = None

    def remove_checkpoint(self, filepath: Any) -> None:
        if self.is_global_zero:
            remove_checkpoint(Path(filepath))


class SingleProcess(PortableCheckpoints, SingleDeviceStrategy):
    """One process on one device."""


class DataParallel(PortableCheckpoints, DDPStrategy):
    """Every process has the whole model; gradients are averaged."""


class ShardedDataParallel(PortableCheckpoints, ModelParallelStrategy):
    """FSDP2: every process has a part of each tensor. The module shards it: `configure_model`."""

    writes_shards = True

    def __init__(self, sharding: ShardingOptions, **keywords: Any) -> None:
        super().__init__(**keywords)
        self.sharding = sharding

    def trained_state(self, *, with_optimizer: bool) -> TrainedState:
        self._reshard()
        return super().trained_state(with_optimizer=with_optimizer)

    def _reshard(self) -> None:
        """Drop what is gathered: behind an evaluation, the outermost unit still is.

        The parameters of a gathered unit are not those that are trained.
        """
        assert self.lightning_module is not None
        for module in self.lightning_module.modules():
            if isinstance(module, FSDPModule):
                module.reshard()

    def model_to_device(self) -> None:
        assert self.model is not None
        self._reshard()  # before the optimizer is made
        if self.sharding.cpu_offload:
            return  # where each part belongs has been settled when the model was sharded
        super().model_to_device()


class WeightsKeptAsTheyAre(DeepSpeedPrecision):
    """DeepSpeed's arithmetic, without rounding the batch: loss weights stay in float32."""

    def convert_input(self, data: Any) -> Any:
        return data


class ZeroRedundancy(PortableCheckpoints, DeepSpeedStrategy):
    """DeepSpeed's ZeRO, on GPUs, and on CPUs for proofs and small runs."""

    writes_shards = True
    _evaluating: Any = None

    @property
    def stage(self) -> int:
        assert self.config is not None
        return int(self.config["zero_optimization"]["stage"])

    def trained_state(self, *, with_optimizer: bool) -> TrainedState:
        assert self.lightning_module is not None
        engine = self.deepspeed_engine
        # While testing, the engine has no optimizer, and the parameters are all there is.
        wrapper = getattr(engine, "optimizer", None)
        is_training = hasattr(wrapper, "fp32_partitioned_groups_flat") or hasattr(
            wrapper, "single_partition_of_fp32_groups"
        )
        assert is_training or not with_optimizer
        return DeepSpeedState(
            self.lightning_module.model,  # type: ignore[arg-type]
            wrapper if is_training else None,
            self.stage,
        )

    def _partition(self, model: torch.nn.Module) -> None:
        """Of stage 3, cut the model tensor by tensor; the engine would first move it as a whole."""
        if self.stage != 3 or any(hasattr(item, "ds_id") for item in model.parameters()):
            return
        from deepspeed import zero

        assert self.config is not None
        if self.config.get("bf16", {}).get("enabled"):
            model.bfloat16()  # as the engine would
        elif self.config.get("fp16", {}).get("enabled"):
            model.half()
        zero.Init(module=model, config_dict_or_path=self.config)

    def _initialize_deepspeed_inference(self, model: torch.nn.Module) -> None:
        self._partition(model)
        super()._initialize_deepspeed_inference(model)
        self._evaluating = self.deepspeed_engine

    def _initialize_deepspeed_train(self, model: torch.nn.Module) -> None:
        # Of stage 3, the hooks of an evaluation in front of training would go on gathering beside
        # those of the new engine.
        hooks = getattr(self._evaluating, "optimizer", None)
        if hooks is not None and hasattr(hooks, "_remove_module_hooks"):
            hooks.destroy()
        self._evaluating = None
        self._partition(model)
        super()._initialize_deepspeed_train(model)

    @property
    def root_device(self) -> torch.device:
        assert self.parallel_devices is not None
        device = self.parallel_devices[self.local_rank]
        # DeepSpeed asks for an index, which devices of a CPU otherwise do not have.
        return torch.device("cpu", self.local_rank) if device.type == "cpu" else device

    def setup_environment(self) -> None:
        # Lightning's own refuses everything but CUDA here.
        assert self.accelerator is not None
        self.accelerator.setup_device(self.root_device)
        self.setup_distributed()

    def setup_distributed(self) -> None:
        if self.root_device.type == "cpu":
            from deepspeed import ops

            # It would be compiled at the first run, to no use with processes that exchange little.
            ops.__compatible_ops__["deepspeed_shm_comm"] = False
        self.set_world_ranks()
        self._init_deepspeed_distributed()

    def backward(self, closure_loss: Any, optimizer: Any, *args: Any, **kwargs: Any) -> Any:
        # Lightning has divided by the number of micro-batches already.
        return super().backward(closure_loss, optimizer, *args, scale_wrt_gas=False, **kwargs)


def build_strategy(
    settings: StrategySettings, ranks: Ranks, *, accelerator: str, precision: str = "32-true"
) -> PortableCheckpoints:
    """Return the Lightning strategy that ``settings`` describe.

    Args:
        settings: Which, and how.
        ranks: This process among the others; they have to be connected already, except for
            "single".
        accelerator: "cpu", "cuda" or "mps".
        precision: Lightning's flag; only DeepSpeed needs it here.
    """
    if settings.name == "single":
        device = torch.device("cpu") if accelerator == "cpu" else torch.device(accelerator, 0)
        return SingleProcess(device=device)
    timeout = timedelta(minutes=settings.timeout_minutes)
    if settings.name == "ddp":
        return DataParallel(timeout=timeout, gradient_as_bucket_view=True)
    if settings.name == "fsdp":
        return ShardedDataParallel(
            settings.sharding,
            data_parallel_size=ranks.world_size,
            tensor_parallel_size=1,
            timeout=timeout,
        )
    assert settings.name == "deepspeed", settings.name
    if accelerator == "cpu":
        os.environ["DS_ACCELERATOR"] = "cpu"
    return ZeroRedundancy(
        config=_deepspeed_config(settings),
        precision_plugin=WeightsKeptAsTheyAre(precision),  # type: ignore[arg-type]
        timeout=timeout,
        logging_level=logging.WARNING,
    )


def _deepspeed_config(settings: StrategySettings) -> dict[str, Any]:
    zero: dict[str, Any] = {"stage": settings.stage}
    if settings.offload_optimizer:
        zero["offload_optimizer"] = {"device": "cpu"}
    if settings.offload_parameters:
        zero["offload_param"] = {"device": "cpu"}
    own = dict(settings.deepspeed_config)
    return {
        # Any optimizer of the config is used as it is, also where its state is offloaded.
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "train_micro_batch_size_per_gpu": 1,  # only shown, never used for anything
        "zero_optimization": {**zero, **own.pop("zero_optimization", {})},
        **own,
    }


def resolve_accelerator(name: str) -> str:
    """Return "cuda", "mps" or "cpu" for a flag that may be "auto" or "gpu"."""
    if name in ("auto", "gpu"):
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    return name
