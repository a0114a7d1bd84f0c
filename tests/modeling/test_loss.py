"""The loss over supervised positions is the plain weighted loss, whatever the model and the cut."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from conftest import FAMILIES, make_model
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_training import (
    PAD,
    VOCABULARY_SIZE,
    filler,
    gradients,
    random_examples,
    randomize_adapter,
    to_batch,
)

from ift_lightning.modeling.adapters import attach_adapter
from ift_lightning.modeling.loss import SupervisedHead
from ift_lightning.types import Batch

SETTINGS: dict[str, dict[str, Any] | None] = {
    "full": None,
    "lora": {"_target_": "peft.LoraConfig", "target_modules": "all-linear", "r": 4},
    "prefix": {"_target_": "peft.PrefixTuningConfig", "num_virtual_tokens": 5},
    "ptuning": {
        "_target_": "peft.PromptEncoderConfig",
        "num_virtual_tokens": 5,
        "encoder_hidden_size": 16,
    },
    "prompt": {"_target_": "peft.PromptTuningConfig", "num_virtual_tokens": 5},
}
CHECKPOINTED = ("full", "lora", "ptuning", "prompt")


def make_adapted(method: str, family: str, *, checkpointing: bool = False, **changes: Any) -> Any:
    torch.manual_seed(3)
    model = attach_adapter(
        make_model(family, VOCABULARY_SIZE, **changes),
        SETTINGS[method],
        gradient_checkpointing=checkpointing,
    )
    randomize_adapter(model)
    return model.train()


def naive_loss(model: Any, batch: Batch, *, masked: bool = True) -> torch.Tensor:
    """Return sum(w * nll) / step_weight from all logits, one token at a time."""
    mask = batch.attention_mask if masked else None
    logits = model(input_ids=batch.input_ids, attention_mask=mask, use_cache=False).logits
    logits = logits[:, -batch.input_ids.shape[1] :]
    total = torch.zeros(())
    for row, position in itertools.product(*map(range, batch.input_ids.shape)):
        weight = batch.loss_weights[row, position]
        if position and weight:
            target = batch.input_ids[row, position]
            total = total + weight * F.cross_entropy(logits[row, position - 1], target)
    return total / batch.step_weight


def assert_same_gradients(
    got: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor], tolerance: float = 1e-6
) -> None:
    """Compare all gradients as one vector: its length is what "relative" refers to."""
    assert got.keys() == wanted.keys()
    difference = sum(float((got[name] - wanted[name]).double().square().sum()) for name in got)
    length = sum(float(item.double().square().sum()) for item in wanted.values())
    assert length > 0
    assert difference**0.5 <= tolerance * length**0.5


def loss_and_gradients(model: Any, loss: torch.Tensor) -> tuple[float, dict[str, torch.Tensor]]:
    model.zero_grad()
    loss.backward()
    return loss.item(), gradients(model)


@pytest.mark.parametrize("max_logits_elements", [1 << 26, 3 * VOCABULARY_SIZE])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", SETTINGS)
def test_equals_the_naive_loss(method: str, family: str, max_logits_elements: int) -> None:
    model = make_adapted(method, family)
    batch = to_batch(random_examples(3, longest=12))
    wanted, wanted_gradients = loss_and_gradients(model, naive_loss(model, batch))
    losses = SupervisedHead(model, max_logits_elements=max_logits_elements)(batch)
    got, got_gradients = loss_and_gradients(model, losses.weighted_sum / batch.step_weight)
    assert got == pytest.approx(wanted, rel=1e-6)
    assert_same_gradients(got_gradients, wanted_gradients)
    assert losses.nll.dtype == losses.weights.dtype == torch.float32
    assert float(losses.weights.sum()) == pytest.approx(batch.step_weight)


@pytest.mark.parametrize("chunked", [False, True])
def test_correct_counts_the_most_likely_tokens(chunked: bool) -> None:
    model = make_adapted("full", "llama").eval()
    batch = to_batch(random_examples(2))
    with torch.no_grad():
        best = model(input_ids=batch.input_ids).logits.argmax(-1)
    positions = (batch.loss_weights > 0).nonzero()[::2]
    for row, position in positions.tolist():
        if position:  # causal: what is written behind does not change what stands before
            batch.input_ids[row, position] = best[row, position - 1]
            with torch.no_grad():
                best = model(input_ids=batch.input_ids).logits.argmax(-1)
    size = VOCABULARY_SIZE if chunked else 1 << 26
    losses = SupervisedHead(model, max_logits_elements=size)(batch)
    supervised = batch.loss_weights[:, 1:] > 0
    wanted = (best[:, :-1] == batch.input_ids[:, 1:])[supervised]
    assert losses.correct.tolist() == wanted.tolist()
    assert 0 < int(wanted.sum()) < len(wanted)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", SETTINGS)
def test_filler_is_worth_nothing_but_reaches_every_parameter(method: str, family: str) -> None:
    model = make_adapted(method, family)
    batch = to_batch(random_examples(2, longest=8))
    losses = SupervisedHead(model)(filler(batch))
    loss, filler_gradients = loss_and_gradients(model, losses.weighted_sum / 7.0)
    assert loss == 0.0
    assert float(losses.weights.sum()) == 0.0
    assert not losses.correct.any()
    _, real_gradients = loss_and_gradients(model, naive_loss(model, batch))
    assert filler_gradients.keys() == real_gradients.keys()
    assert all(not item.any() for item in filler_gradients.values())


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", SETTINGS)
def test_padding_on_the_right_needs_no_mask(method: str, family: str, attention: str) -> None:
    """Real tokens never see what stands behind them, and padding never reaches the loss."""
    model = make_adapted(method, family, attn_implementation=attention)
    examples = random_examples(3, longest=14)
    batch = to_batch(examples)
    assert (batch.attention_mask == 0).any()
    wanted, wanted_gradients = loss_and_gradients(model, naive_loss(model, batch, masked=True))
    got, got_gradients = loss_and_gradients(
        model, SupervisedHead(model)(batch).weighted_sum / batch.step_weight
    )
    assert got == pytest.approx(wanted, rel=1e-6)
    assert_same_gradients(got_gradients, wanted_gradients)
    other = to_batch(examples)
    other.input_ids[other.attention_mask == 0] = PAD + 7
    again = SupervisedHead(model)(other).weighted_sum / batch.step_weight
    assert again.item() == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", CHECKPOINTED)
def test_checkpointing_changes_no_gradient(method: str, family: str) -> None:
    batch = to_batch(random_examples(2, longest=12))
    found = []
    for checkpointing in (False, True):
        model = make_adapted(method, family, checkpointing=checkpointing)
        base = model if method == "full" else model.get_base_model()
        assert base.is_activation_checkpointing == checkpointing
        loss = SupervisedHead(model)(batch).weighted_sum / batch.step_weight
        found.append(loss_and_gradients(model, loss))
    assert found[1][0] == pytest.approx(found[0][0], rel=1e-6)
    assert_same_gradients(found[1][1], found[0][1])


def step_gradients(model: Any, cut: list[list[int]], examples: list[Any]) -> dict[str, Any]:
    """Return the gradient of one optimizer step whose rows are cut into micro-batches."""
    total = float(sum(sum(row.loss_weights) for row in examples))
    head = SupervisedHead(model)
    model.zero_grad()
    for rows in cut:
        batch = to_batch([examples[row] for row in rows] or examples[:1], total)
        batch = batch if rows else filler(batch)
        (head(batch).weighted_sum / batch.step_weight).backward()
    return gradients(model)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", SETTINGS)
def test_gradient_does_not_depend_on_the_cut(method: str, family: str) -> None:
    model = make_adapted(method, family)
    examples = random_examples(4, longest=12)
    wanted = step_gradients(model, [[0, 1, 2, 3]], examples)
    for cut in ([[3, 1], [0, 2]], [[2], [0], [3], [1]], [[1, 0, 3], [], [2]]):
        assert_same_gradients(step_gradients(model, cut, examples), wanted)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(order=st.permutations(range(8)), num=st.sampled_from([1, 2, 4]), seed=st.integers(0, 99))
def test_gradient_does_not_depend_on_any_cut(order: list[int], num: int, seed: int) -> None:
    model = make_adapted("lora", "llama")
    examples = random_examples(8, seed=seed)
    wanted = step_gradients(model, [list(range(8))], examples)
    size = 8 // num
    cut = [list(order[start : start + size]) for start in range(0, 8, size)]
    assert_same_gradients(step_gradients(model, cut, examples), wanted)


@pytest.mark.parametrize("name", ["final_logit_softcapping", "logit_scale"])
def test_models_that_change_their_logits_are_not_chunked(name: str) -> None:
    model = make_adapted("full", "llama")
    setattr(model.config, name, 30.0)
    head = SupervisedHead(model, max_logits_elements=VOCABULARY_SIZE)
    calls: list[int] = []
    handle = model.get_output_embeddings().register_forward_hook(lambda *_: calls.append(1))
    head(to_batch(random_examples(2)))
    handle.remove()
    assert len(calls) == 1
