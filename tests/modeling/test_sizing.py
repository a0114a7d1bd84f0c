"""The size that is chosen is the nearest one, by brute force over models that are really built."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import make_model

from ift_lightning.errors import UserError
from ift_lightning.modeling.adapters import attach_adapter, count_parameters
from ift_lightning.modeling.sizing import (
    _nearest,
    build_weightless_model,
    method_size,
    solve_size,
)

LORA = {"_target_": "peft.LoraConfig", "r": 16, "lora_alpha": 32, "target_modules": "all-linear"}
ADALORA = {
    "_target_": "peft.AdaLoraConfig", "init_r": 24, "target_r": 16, "lora_alpha": 32,
    "target_modules": "all-linear", "total_step": 100,
}  # fmt: skip
PTUNING = {
    "_target_": "peft.PromptEncoderConfig", "num_virtual_tokens": 20, "encoder_hidden_size": 16,
}  # fmt: skip
PREFIX = {"_target_": "peft.PrefixTuningConfig", "num_virtual_tokens": 20}
PROMPT = {"_target_": "peft.PromptTuningConfig", "num_virtual_tokens": 20}
IA3 = {"_target_": "peft.IA3Config"}


@pytest.fixture(scope="module")
def base(model_folder: Callable[[str], Path]) -> Any:
    return build_weightless_model(str(model_folder("llama")), vocabulary_size=480)


def real_count(settings: Mapping[str, Any] | None) -> int:
    """Count on a model with weights."""
    return count_parameters(attach_adapter(make_model("llama", 480), settings))[1]


@pytest.mark.parametrize(
    ("settings", "budget"),
    [
        (LORA, 5000),
        ({**LORA, "use_dora": True}, 5000),
        ({**LORA, "modules_to_save": ["lm_head"]}, 20_000),
        ({**LORA, "rank_pattern": {"q_proj": 3}}, 5000),
        (ADALORA, 5000),
        (PTUNING, 1800),
        (PREFIX, 500),
        (PROMPT, 500),
    ],
)
def test_no_other_size_is_nearer(base: Any, settings: dict[str, Any], budget: int) -> None:
    found = solve_size(base, settings, budget, name="method", max_virtual_tokens=400)
    size = method_size(settings)
    assert size is not None
    counts = {value: real_count({**settings, **size.keywords(value)}) for value in range(2, 20)}
    nearest = min(counts, key=lambda value: abs(counts[value] - budget))
    assert found.size[size.key] == nearest
    assert found.num_trainable_parameters == counts[nearest]
    assert found.settings == {**settings, **found.size}
    assert found.deviation == pytest.approx(counts[nearest] / budget - 1)


def test_the_base_is_left_as_it_is_and_has_no_weights(base: Any) -> None:
    before = [name for name, _ in base.named_parameters()]
    state = torch.get_rng_state()
    solve_size(base, LORA, 5000, name="lora")
    assert [name for name, _ in base.named_parameters()] == before
    assert all(parameter.is_meta for parameter in base.parameters())
    assert torch.equal(torch.get_rng_state(), state)  # the run's own draws stay as they were


def test_alpha_keeps_its_ratio_to_the_rank() -> None:
    for settings, value, expected in (
        (LORA, 5, {"r": 5, "lora_alpha": 10}),
        ({"_target_": "peft.LoraConfig"}, 3, {"r": 3, "lora_alpha": 3}),  # PEFT's own 8 and 8
        ({**LORA, "lora_alpha": 24}, 3, {"r": 3, "lora_alpha": 4.5}),
        ({**LORA, "use_rslora": True}, 5, {"r": 5}),
        (ADALORA, 6, {"init_r": 6, "target_r": 4, "lora_alpha": 8}),
        (ADALORA, 2, {"init_r": 2, "target_r": 1, "lora_alpha": 32 / 12}),
        ({**ADALORA, "target_r": 23}, 4, {"init_r": 4, "target_r": 3, "lora_alpha": 32 / 6}),
        (PREFIX, 7, {"num_virtual_tokens": 7}),
    ):
        size = method_size(settings)
        assert size is not None
        assert size.keywords(value) == expected
    assert method_size(IA3) is None


def test_new_tokens_are_counted(base: Any) -> None:
    plain = solve_size(base, LORA, 5000, name="lora")
    with_tokens = solve_size(base, LORA, 5000 + 3 * 32, name="lora", new_token_ids=[5, 6, 7])
    assert with_tokens.size == plain.size
    assert with_tokens.num_trainable_parameters == plain.num_trainable_parameters + 3 * 32


@pytest.mark.parametrize("settings", [IA3, None])
def test_a_method_without_a_size_says_what_it_has(
    base: Any, settings: dict[str, Any] | None
) -> None:
    count = real_count(settings)
    name = "ia3" if settings else "full"
    with pytest.raises(UserError, match=f"peft={name} has no size.*{count:,} ") as error:
        solve_size(base, settings, 2 * count, name=name)
    assert f"budget.max_trainable_parameters={count}" in str(error.value)
    # What the message proposes works, and so does what is nearly that.
    found = solve_size(base, settings, int(count * 0.95), name=name)
    assert (found.size, found.num_trainable_parameters) == ({}, count)


def test_a_budget_below_the_smallest_size_is_refused(base: Any) -> None:
    smallest = real_count({**LORA, "r": 1})
    with pytest.raises(UserError, match=f"smallest size, r=1, lora_alpha=2, trains {smallest:,} "):
        solve_size(base, LORA, smallest // 2, name="lora")
    near = solve_size(base, LORA, int(smallest * 0.95), name="lora")
    assert near.size["r"] == 1


def test_virtual_tokens_stay_within_the_models_positions(base: Any) -> None:
    with pytest.raises(UserError, match=r"num_virtual_tokens=40, trains 1,280 .*positions"):
        solve_size(base, PROMPT, 2000, name="prompt", max_virtual_tokens=40)
    with pytest.raises(UserError, match=r"lower data\.max_seq_length"):
        solve_size(base, PROMPT, 2000, name="prompt", max_virtual_tokens=0)
    found = solve_size(base, PROMPT, 1300, name="prompt", max_virtual_tokens=40)
    assert found.size == {"num_virtual_tokens": 40}


def test_a_rank_larger_than_any_matrix_is_refused(base: Any) -> None:
    # The smaller side of the largest matrix, lm_head with 480 x 32, has 32.
    with pytest.raises(UserError, match="largest size, r=32"):
        solve_size(base, LORA, 1_000_000, name="lora")


def test_a_gap_between_sizes_is_marked(base: Any) -> None:
    one, two = (real_count({**PREFIX, "num_virtual_tokens": n}) for n in (1, 2))
    found = solve_size(base, PREFIX, int(one * 1.3), name="prefix")
    assert found.size == {"num_virtual_tokens": 1}
    assert found.is_off
    assert found.deviation < -0.1
    assert not solve_size(base, PREFIX, two, name="prefix").is_off


@pytest.mark.parametrize("count", [lambda n: 7 * n + 3, lambda n: n**2, lambda n: 5 * (n // 4)])
def test_nearest_agrees_with_brute_force(count: Callable[[int], int]) -> None:
    asked = set()

    def counted(size: int) -> int:
        asked.add(size)
        return count(size)

    for wanted in range(1, 600, 7):
        asked.clear()
        found = _nearest(counted, wanted, 1, 90)
        best = min(range(1, 91), key=lambda size: abs(count(size) - wanted))
        assert abs(count(found) - wanted) == abs(count(best) - wanted), wanted
        assert asked <= set(range(1, 91))
        if count(2) - count(1) == 7:
            assert found == best
            assert len(asked) <= 5
