"""Every strategy gives the numbers of a single process: in two real processes, over gloo.

Rows of unequal lengths, steps cut into micro-batches with fillers, a last short step, several
parameter groups, and gradients that are clipped.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from strategy_runs import ADAMW, SGD, train_alone, train_on_two_ranks

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

TOLERANCE = 1e-5
ADAPTERS = {"method": "lora", "optimizer": ADAMW}
CASES: dict[str, tuple[list[str], dict[str, Any]]] = {
    "lora": (
        ["ddp", "fsdp", "zero1", "zero2", "zero3"]
        + ["fsdp-offload", "zero2-offload", "zero3-offload"],
        ADAPTERS,
    ),
    # Adam divides by the root of a mean square, which makes rounding errors of gradients near 0
    # large; momentum does not.
    "full": (["ddp", "fsdp", "zero1", "zero2", "zero3"], {"method": "full", "optimizer": SGD}),
    "lora-checkpointing": (["fsdp", "zero3"], {**ADAPTERS, "checkpointing": True}),
    "dora": (["ddp", "fsdp", "zero2", "zero3"], {"method": "dora"}),
    "ia3": (["ddp", "fsdp", "zero2", "zero3"], {"method": "ia3", "optimizer": SGD}),
    "prompt": (["ddp", "fsdp", "zero2", "zero3"], {"method": "prompt"}),
    "ptuning": (["ddp", "fsdp", "zero2", "zero3"], {"method": "ptuning", "optimizer": SGD}),
    "prefix": (["ddp", "fsdp", "zero2", "zero3"], {"method": "prefix"}),
    "adalora": (["ddp"], {"method": "adalora"}),
    **{
        family: (["fsdp", "zero3"], {"method": "full", "family": family, "optimizer": SGD})
        for family in ("qwen2", "qwen3", "starcoder2", "gpt2", "gpt_bigcode")
    },
}
LABELS = [
    f"{name}-{strategy}" for name, (strategies, _) in CASES.items() for strategy in strategies
]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("alone")
    return {name: train_alone(folder / name, **options) for name, (_, options) in CASES.items()}


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("together")
    cases = [
        (f"{name}-{strategy}", strategy, options)
        for name, (strategies, options) in CASES.items()
        for strategy in strategies
    ]
    return train_on_two_ranks(folder, cases)


@pytest.mark.parametrize("label", LABELS)
def test_same_losses_and_weights(
    label: str, alone: dict[str, Any], together: dict[str, Any]
) -> None:
    name = label.removesuffix("-offload").rpartition("-")[0]
    expected, found = alone[name], together[label]
    assert "error" not in found, found
    assert len(found["losses"]) == 7
    assert found["losses"] == pytest.approx(expected["losses"], abs=TOLERANCE)
    assert found["norms"] == pytest.approx(expected["norms"], abs=TOLERANCE)
    assert found["val/loss"] == pytest.approx(expected["val/loss"], abs=TOLERANCE)
    assert set(found["weights"]) == set(expected["weights"])
    for name, weight in expected["weights"].items():
        assert (found["weights"][name] - weight).abs().max() <= TOLERANCE, name
    assert found["audit"]["problems"] == []
    assert found["audit"]["num_tensors"] == expected["audit"]["num_tensors"]


def test_the_runs_did_train(alone: dict[str, Any], tmp_path: Path) -> None:
    """Else equal weights would mean nothing."""
    for name, result in alone.items():
        assert result["norms"][0] > 0, name
        assert result["audit"]["passed"], name
