"""What strategies are given beside their defaults, in two real processes over gloo.

A run that is measured before it trains, other dtypes, tensors that cannot be cut evenly, and the
output head applied in chunks.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from strategy_runs import ADAMW, SGD, train_alone, train_on_two_ranks
from two_ranks import on_two_ranks

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

LORA = {"method": "lora", "optimizer": ADAMW}
FULL = {"method": "full", "optimizer": SGD}
PTUNING = {"method": "ptuning", "optimizer": SGD}
BEFORE = {"measure_before": True}
CHUNKED = {"max_logits_elements": 700}  # two positions at a time
SOME_CHUNKED = {"max_logits_elements": 2331}  # nine: often, one rank has more and the other not
BF16 = {"precision": "bf16-mixed"}
# By label: strategy, options, and how far losses and weights may be from a single process in fp32.
CASES: dict[str, tuple[str, dict[str, Any], float]] = {
    "before-fsdp": ("fsdp", {**LORA, **BEFORE}, 1e-5),
    "before-zero3": ("zero3", {**LORA, **BEFORE}, 1e-5),
    "before-offload-full": ("fsdp-offload", {**FULL, **BEFORE}, 1e-5),
    "before-offload-ptuning": ("fsdp-offload", {**PTUNING, **BEFORE}, 1e-5),
    "keep-full": ("fsdp-keep", FULL, 1e-5),
    "chunked-ddp": ("ddp", {**FULL, **CHUNKED}, 1e-5),
    "chunked-fsdp": ("fsdp", {**FULL, **CHUNKED}, 1e-5),
    "chunked-zero3": ("zero3", {**FULL, **CHUNKED}, 1e-5),
    "some-chunked-zero3": ("zero3", {**FULL, **SOME_CHUNKED, **BEFORE}, 1e-5),
    "chunked-checkpointing-zero3": ("zero3", {**LORA, **CHUNKED, "checkpointing": True}, 1e-5),
    "bf16-fsdp": ("fsdp-bf16", {**LORA, **BF16, **BEFORE}, 0.03),
    "bf16-fsdp-reduced": ("fsdp-bf16-reduced", {**FULL, **BF16, **BEFORE}, 0.03),
    "bf16-zero3": ("zero3", {**LORA, **BF16}, 0.03),
}
ALONE = {"lora": {**LORA, **BEFORE}, "full": {**FULL, **BEFORE}, "ptuning": {**PTUNING, **BEFORE}}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("alone")
    return {name: train_alone(folder / name, **options) for name, options in ALONE.items()}


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("together")
    cases = [(label, strategy, options) for label, (strategy, options, _) in CASES.items()]
    return train_on_two_ranks(folder, cases)


@pytest.mark.parametrize("label", CASES)
def test_the_numbers_of_a_single_process(
    label: str, alone: dict[str, Any], together: dict[str, Any]
) -> None:
    _, options, tolerance = CASES[label]
    expected, found = alone[options["method"]], together[label]
    assert "error" not in found, found
    assert found["losses"] == pytest.approx(expected["losses"], abs=tolerance)
    assert found["val/loss"] == pytest.approx(expected["val/loss"], abs=tolerance)
    if "measure_before" in options:
        assert found["before"] == pytest.approx(expected["before"], abs=tolerance)
    assert set(found["weights"]) == set(expected["weights"])
    if tolerance < 1e-3:
        for name, weight in expected["weights"].items():
            assert (found["weights"][name] - weight).abs().max() <= tolerance, name
    assert found["audit"]["problems"] == []


@pytest.mark.parametrize("strategy", ["fsdp", "zero3"])
def test_tensors_that_cannot_be_cut_evenly_are_restored(strategy: str, tmp_path: Path) -> None:
    arguments = {
        "folder": str(tmp_path / "run"),
        "strategy": strategy,
        "method": "lora-odd",
        "model_options": {"intermediate_size": 33},
        "num_steps": 2,
    }
    content = on_two_ranks("strategy_runs:restore_finished", arguments, tmp_path)
    written, restored = content["written"], content["restored"]
    assert any(value.numel() % 2 for value in written["parameters"].values())
    for name, value in written["parameters"].items():
        assert torch.equal(restored["parameters"][name], value), name
        assert set(restored["moments"][name]) == set(written["moments"][name]) > {"exp_avg"}
        for key, moment in written["moments"][name].items():
            assert torch.equal(restored["moments"][name][key], moment), (name, key)
