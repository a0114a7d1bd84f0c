"""Where restored numbers are put. The device "meta" stands for a GPU."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from ift_lightning.training import trained_state
from ift_lightning.training.trained_state import (
    DeepSpeedState,
    TrainedState,
    partition_of,
    step_count,
)

GPU = torch.device("meta")
SAVED = {"step": torch.tensor(3.0), "exp_avg": torch.ones(2, 3), "exp_avg_sq": torch.ones(2, 3)}


@pytest.mark.parametrize(
    ("group", "expected"),
    [
        ({"fused": True, "capturable": False}, "meta"),
        ({"fused": None, "capturable": True}, "meta"),
        ({"fused": None, "capturable": False}, "cpu"),
        ({}, "cpu"),
    ],
)
def test_steps_are_counted_where_the_optimizer_looks(group: dict[str, Any], expected: str) -> None:
    assert step_count(torch.tensor(3.0), GPU, group).device.type == expected
    model = torch.nn.Linear(3, 2, bias=False, device=GPU)
    optimizer = torch.optim.AdamW(model.parameters())
    optimizer.param_groups[0].update(group)
    TrainedState(model, optimizer).set_optimizer_state("weight", SAVED)
    state = optimizer.state[model.weight]
    assert {key: value.device.type for key, value in state.items()} == {
        "step": expected if "fused" in group else "cpu",
        "exp_avg": "meta",
        "exp_avg_sq": "meta",
    }


def test_a_restored_count_is_a_copy() -> None:
    """Saved tensors are mapped from the checkpoint, and an optimizer counts in place."""
    saved = torch.tensor(3.0)
    step_count(saved, torch.device("cpu"), {}).add_(1)
    assert saved == 3


@pytest.mark.parametrize(("fused", "expected"), [(True, "meta"), (None, "cpu")])
def test_deepspeed_counts_there_too(fused: bool | None, expected: str) -> None:
    pytest.importorskip("deepspeed")
    flat = torch.nn.Parameter(torch.empty(4, device=GPU))
    optimizer = torch.optim.AdamW([flat])
    optimizer.state[flat] = {"exp_avg": torch.empty(4, device=GPU)}
    optimizer.param_groups[0]["fused"] = fused
    optimizer.param_groups[0]["params"] = []  # as stage 3 leaves it
    state = DeepSpeedState(torch.nn.Linear(2, 2), SimpleNamespace(optimizer=optimizer), stage=3)
    state.set_optimizer_state("weight", {"step": torch.tensor(3.0)})
    assert optimizer.state[flat]["step"].device.type == expected


def test_parts_of_a_tensor_that_cannot_be_cut_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    value = torch.arange(1.0, 8.0).reshape(7, 1)
    parameter = SimpleNamespace(ds_tensor=SimpleNamespace(ds_numel=3), ds_process_group=None)
    parts = []
    for rank in range(3):
        monkeypatch.setattr(trained_state.dist, "get_rank", lambda group, rank=rank: rank)
        parts.append(partition_of(value, parameter).tolist())
    assert parts == [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 0.0, 0.0]]
