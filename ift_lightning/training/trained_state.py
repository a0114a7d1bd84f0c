"""Whole tensors of what is trained, by name, however a strategy has spread them.

A checkpoint written from these can be read by any strategy on any number of processes. Every
method that returns or takes a tensor is called by all ranks, in the same order.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.tensor import DTensor, distribute_tensor

from ift_lightning.modeling.adapters import trainable_tensors


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor with the parts of all ranks."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def _spread_like(value: torch.Tensor, example: torch.Tensor) -> torch.Tensor:
    """Return this rank's part of a whole tensor, placed as ``example`` is."""
    value = value.to(example.device, example.dtype)
    if not isinstance(example, DTensor):
        return value
    # Every rank has the whole value: nothing needs to be sent.
    part = distribute_tensor(value, example.device_mesh, example.placements, src_data_rank=None)
    # It is on the mesh's device now, and not where parts are offloaded to.
    return part.to(example.device)


def step_count(value: torch.Tensor, device: torch.device, group: Mapping[str, Any]) -> torch.Tensor:
    """Return a count of steps where the optimizer of torch looks for it.

    Args:
        value: As it was saved, on any device.
        device: Of the parameter that it belongs to.
        group: The parameter's group: fused and capturable optimizers count on the parameter's
            device, others in main memory.
    """
    beside_parameter = bool(group.get("fused") or group.get("capturable"))
    # A copy: saved tensors are mapped from a file, and optimizers count in place.
    return value.to(device if beside_parameter else "cpu", copy=True)


class TrainedState:
    """Parameters that are trained, with the optimizer's state: plain, or sharded as DTensors.

    Args:
        model: The model.
        optimizer: None where only parameters are wanted.
    """

    def __init__(
        self, model: torch.nn.Module, optimizer: torch.optim.Optimizer | None = None
    ) -> None:
        self.parameters = trainable_tensors(model)
        self.optimizer = optimizer

    @property
    def names(self) -> list[str]:
        return list(self.parameters)

    def parameter(self, name: str) -> torch.Tensor:
        """Return a whole parameter, in main memory."""
        return whole(self.parameters[name].detach()).cpu()

    def set_parameter(self, name: str, value: torch.Tensor) -> None:
        """Set a parameter from a whole one."""
        parameter = self.parameters[name]
        if tuple(value.shape) != tuple(parameter.shape):
            raise ValueError(
                f"{name} has the shape {tuple(value.shape)}, and {tuple(parameter.shape)} here"
            )
        with torch.no_grad():
            parameter.copy_(_spread_like(value, parameter))

    def has_gradient(self, name: str) -> bool:
        """Whether this rank's part of a gradient has any number but 0."""
        gradient = self.parameters[name].grad
        if isinstance(gradient, DTensor):
            gradient = gradient.to_local()
        return gradient is not None and bool((gradient != 0).any())

    def make_room(self, example: Mapping[str, Any]) -> None:
        """Prepare for :meth:`set_optimizer_state` with states like ``example``."""

    def optimizer_state(self, name: str) -> dict[str, Any]:
        """Return what the optimizer remembers of a parameter: tensors in main memory, numbers."""
        assert self.optimizer is not None
        state = self.optimizer.state.get(self.parameters[name], {})
        return {
            key: whole(value).cpu() if isinstance(value, torch.Tensor) else value
            for key, value in state.items()
        }

    def set_optimizer_state(self, name: str, state: Mapping[str, Any]) -> None:
        """Set what :meth:`optimizer_state` returned."""
        assert self.optimizer is not None
        if not state:
            return
        parameter = self.parameters[name]
        restored: dict[str, Any] = {}
        for key, value in state.items():
            if not isinstance(value, torch.Tensor):
                restored[key] = value
            elif key == "step":
                group = self._group_of(parameter)
                restored[key] = step_count(value, parameter.device, group)
            elif value.shape == parameter.shape:
                moment = _spread_like(value.to(value.dtype), parameter.detach().to(value.dtype))
                restored[key] = moment.clone()
            else:
                restored[key] = value.to(parameter.device, copy=True)
        self.optimizer.state[parameter] = restored

    def _group_of(self, parameter: torch.Tensor) -> Mapping[str, Any]:
        """Return the optimizer's group that a parameter is in."""
        assert self.optimizer is not None
        for group in self.optimizer.param_groups:
            if any(item is parameter for item in group["params"]):
                return group
        raise ValueError("the optimizer does not have the parameter")

    def group_settings(self) -> list[dict[str, Any]]:
        """Return each parameter group's settings, such as the learning rate."""
        assert self.optimizer is not None
        return [
            {key: value for key, value in group.items() if key != "params"}
            for group in self.optimizer.param_groups
        ]

    def set_group_settings(self, settings: list[dict[str, Any]]) -> None:
        assert self.optimizer is not None
        for group, values in zip(self.optimizer.param_groups, settings, strict=True):
            group.update(values)


class DeepSpeedState(TrainedState):
    """The same for a DeepSpeed engine, which keeps everything in flat partitions.

    Args:
        model: The model inside the engine.
        optimizer: DeepSpeed's wrapper; None where only parameters are wanted.
        stage: ZeRO stage.
    """

    def __init__(self, model: torch.nn.Module, optimizer: Any, stage: int) -> None:
        super().__init__(model, None)
        self.wrapper = optimizer
        self.optimizer = getattr(optimizer, "optimizer", None)
        self.stage = stage
        if self.optimizer is not None and self.optimizer.state:
            self._link_moments()

    def _link_moments(self) -> None:
        """Tell DeepSpeed where each parameter's moments are in its flat partitions.

        It does so itself behind the first step, but of the first parameter group alone: those of
        the other groups are not there yet at that moment, and never looked for again.
        """
        if self.stage != 3:
            self.wrapper._hp_optimizer_states_linked = False
            self.wrapper._lazy_init_hp_params_optimizer_state()

    def parameter(self, name: str) -> torch.Tensor:
        from deepspeed import zero
        from deepspeed.utils import safe_get_full_fp32_param

        parameter = self.parameters[name]
        if self.wrapper is not None:
            value = safe_get_full_fp32_param(parameter)
            if value is not None:
                return value.detach().cpu().clone()
        with zero.GatheredParameters([parameter], enabled=hasattr(parameter, "ds_id")):
            return parameter.detach().cpu().clone()

    def set_parameter(self, name: str, value: torch.Tensor) -> None:
        from deepspeed import zero
        from deepspeed.utils import safe_set_full_fp32_param, safe_set_local_fp32_param

        parameter = self.parameters[name]
        if self.wrapper is not None and hasattr(parameter, "ds_id"):
            safe_set_local_fp32_param(parameter, partition_of(value.float(), parameter))
        elif self.wrapper is not None:
            safe_set_full_fp32_param(parameter, value.to(parameter.device).float())
        if hasattr(parameter, "ds_id"):
            with zero.GatheredParameters([parameter], modifier_rank=0), torch.no_grad():
                parameter.copy_(value.to(parameter.device, parameter.dtype))
            return
        with torch.no_grad():
            parameter.copy_(value.to(parameter.device, parameter.dtype))

    def has_gradient(self, name: str) -> bool:
        from deepspeed.utils import safe_get_full_grad

        gradient = safe_get_full_grad(self.parameters[name])
        return gradient is not None and bool((gradient != 0).any())

    def make_room(self, example: Mapping[str, Any]) -> None:
        """Make the flat partitions' states, which DeepSpeed itself makes at the first step."""
        assert self.optimizer is not None
        if self.stage == 3:
            partitions = self.wrapper.fp32_partitioned_groups_flat
        else:
            partitions = self.wrapper.single_partition_of_fp32_groups
        moments = [key for key, value in example.items() if _is_moment(value)]
        for flat in partitions:
            state = self.optimizer.state[flat]
            for key in moments:
                state[key] = torch.zeros_like(flat)
        self._link_moments()

    def _keys(self) -> list[str]:
        """Return the names of what the optimizer keeps for each number: "exp_avg", …"""
        assert self.optimizer is not None
        for state in self.optimizer.state.values():
            return [key for key, value in state.items() if _is_moment(value)]
        return []

    def optimizer_state(self, name: str) -> dict[str, Any]:
        from deepspeed.utils import safe_get_full_optimizer_state

        assert self.optimizer is not None
        parameter = self.parameters[name]
        values: dict[str, Any] = {
            key: safe_get_full_optimizer_state(parameter, key).detach().cpu().clone()
            for key in self._keys()
        }
        for state in self.optimizer.state.values():
            for key, value in state.items():
                if key not in values:
                    values[key] = value.cpu().clone() if torch.is_tensor(value) else value
        return values

    def set_optimizer_state(self, name: str, state: Mapping[str, Any]) -> None:
        from deepspeed.utils import safe_set_full_optimizer_state, safe_set_local_optimizer_state

        assert self.optimizer is not None
        parameter = self.parameters[name]
        for key, value in state.items():
            if _is_moment(value):
                if hasattr(parameter, "ds_id"):
                    part = partition_of(value, parameter)
                    safe_set_local_optimizer_state(parameter, part, key)
                else:
                    safe_set_full_optimizer_state(parameter, value.to(parameter.device), key)
                continue
            # Stage 3 takes the parameters out of the groups between steps; settings are the same.
            group = self.optimizer.param_groups[0]
            for flat, kept in self.optimizer.state.items():
                if not torch.is_tensor(value):
                    kept[key] = value
                elif key == "step":
                    kept[key] = step_count(value, flat.device, group)
                else:
                    kept[key] = value.to(flat.device, copy=True)


def partition_of(value: torch.Tensor, parameter: Any) -> torch.Tensor:
    """Return this rank's part of a whole tensor, as ZeRO-3 cuts it: flat, the last part padded.

    Args:
        value: Of the parameter's whole shape.
        parameter: Cut by DeepSpeed.
    """
    size = parameter.ds_tensor.ds_numel
    start = size * dist.get_rank(parameter.ds_process_group)
    part = torch.zeros(size, dtype=value.dtype)
    found = value.flatten()[start : start + size]
    part[: found.numel()] = found
    return part


def _is_moment(value: Any) -> bool:
    """Whether the optimizer keeps this for every number, rather than once, as its step count."""
    return isinstance(value, torch.Tensor) and value.ndim > 0
