"""AdaLoRA's own loss term, its rank schedule, and what is saved of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import make_model
from tiny_training import VOCABULARY_SIZE, random_examples, randomize_adapter, to_batch

from ift_lightning.modeling.adalora import AdaLoraController
from ift_lightning.modeling.adapters import (
    adalora_steps,
    attach_adapter,
    load_adapter,
    save_adapter,
    trainable_tensors,
)
from ift_lightning.modeling.loss import SupervisedHead

NUM_STEPS = 20
SCHEDULE = adalora_steps(NUM_STEPS, initial_fraction=0.1, final_fraction=0.3, num_allocations=4)


def make_adalora(family: str = "llama", **changes: Any) -> Any:
    settings = {
        "_target_": "peft.AdaLoraConfig",
        "target_modules": "all-linear",
        "init_r": 6,
        "target_r": 3,
        **SCHEDULE,
        **changes,
    }
    return attach_adapter(make_model(family, VOCABULARY_SIZE), settings)


def train(model: Any, controller: AdaLoraController, num_steps: int) -> None:
    """Take the first ``num_steps`` optimizer steps of the schedule."""
    optimizer = torch.optim.AdamW(trainable_tensors(model).values(), lr=1e-2)
    head = SupervisedHead(model)
    batch = to_batch(random_examples(4))
    model.train()
    for step in range(1, num_steps + 1):
        optimizer.zero_grad()
        loss = head(batch).weighted_sum / batch.step_weight + controller.orthogonality_term()
        loss.backward()
        optimizer.step()
        controller.after_optimizer_step(step)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("weight", [0.5, 0.1, 0.0])
def test_orthogonality_term_is_what_peft_adds_to_its_own_loss(family: str, weight: float) -> None:
    model = make_adalora(family, orth_reg_weight=weight)
    randomize_adapter(model)
    ids = to_batch(random_examples(2)).input_ids
    with_term = model(input_ids=ids, labels=ids).loss
    without_term = model.get_base_model()(input_ids=ids, labels=ids).loss
    term = AdaLoraController(model).orthogonality_term()
    torch.testing.assert_close(with_term, without_term + term, rtol=1e-6, atol=0)
    assert (term.item() > 0) == (weight > 0)
    tensors = trainable_tensors(model)
    wanted = torch.autograd.grad(
        with_term - without_term, list(tensors.values()), allow_unused=True, materialize_grads=True
    )
    got = torch.autograd.grad(
        term, list(tensors.values()), allow_unused=True, materialize_grads=True
    )
    for name, want, have in zip(tensors, wanted, got, strict=True):
        torch.testing.assert_close(have, want, rtol=1e-4, atol=1e-6, msg=name)


def test_ranks_follow_the_schedule() -> None:
    model = make_adalora()
    controller = AdaLoraController(model)
    num_matrices = 14  # seven linear layers in each of two blocks
    assert controller.allocated_ranks() is None
    totals = []
    optimizer = torch.optim.AdamW(trainable_tensors(model).values(), lr=1e-2)
    head, batch = SupervisedHead(model), to_batch(random_examples(4))
    for step in range(1, NUM_STEPS + 1):
        optimizer.zero_grad()
        (head(batch).weighted_sum / batch.step_weight).backward()
        optimizer.step()
        controller.after_optimizer_step(step)
        allocated = controller.allocated_ranks()
        totals.append(None if allocated is None else sum(allocated.values()))
        if step >= NUM_STEPS - SCHEDULE["tfinal"]:
            assert controller.ranks() == allocated
    assert SCHEDULE == {"total_step": 20, "tinit": 2, "tfinal": 6, "deltaT": 3}
    assert totals[:2] == [None, None]
    # Allocations at steps 3, 6, 9, 12 by the cubic schedule, and the last one at 14.
    cubic = [int(42 * (1 - (step - 2) / 12) ** 3 + 42) for step in (3, 6, 9, 12)]
    wanted = [cubic[0]] * 3 + [cubic[1]] * 3 + [cubic[2]] * 3 + [cubic[3]] * 2 + [42] * 7
    assert totals[2:] == wanted
    assert len(controller.ranks()) == num_matrices
    assert len(set(controller.ranks().values())) > 1, "every matrix has the same rank"


@pytest.mark.parametrize("family", ["llama", "starcoder2", "gpt2", "gpt_bigcode"])
@pytest.mark.parametrize("stop_at", [1, 5, 6, 13, 14, 15, 20])
def test_saved_adapter_equals_the_model_at_any_step(
    stop_at: int, family: str, tokenizer: Any, tmp_path: Path
) -> None:
    model = make_adalora(family)
    controller = AdaLoraController(model)
    train(model, controller, stop_at)
    ranks = controller.ranks()
    controller.prepare_export()
    save_adapter(model, tokenizer, tmp_path, base_path="")
    again = load_adapter(make_model(family, VOCABULARY_SIZE), tmp_path).eval()
    ids = to_batch(random_examples(2)).input_ids
    with torch.no_grad():
        difference = (model.eval()(input_ids=ids).logits - again(input_ids=ids).logits).abs().max()
    assert difference == 0
    again_ranks = {
        name.removeprefix("base_model.model.").removesuffix(".lora_E.default"): int(
            (item != 0).sum()
        )
        for name, item in again.named_parameters()
        if "lora_E" in name
    }
    assert again_ranks == ranks


def test_state_goes_on_as_if_nothing_had_happened() -> None:
    reference, interrupted = make_adalora(), make_adalora()
    first, second = AdaLoraController(reference), AdaLoraController(interrupted)
    train(reference, first, 7)
    train(interrupted, second, 7)
    copy = make_adalora()
    copy.load_state_dict(interrupted.state_dict())
    third = AdaLoraController(copy)
    third.load_state_dict(second.state_dict())
    for step in (8, 9):
        for model, controller in ((reference, first), (copy, third)):
            model.zero_grad()
            batch = to_batch(random_examples(4))
            (SupervisedHead(model)(batch).weighted_sum / batch.step_weight).backward()
            controller.after_optimizer_step(step)
    assert first.allocated_ranks() == third.allocated_ranks()
    for name, item in trainable_tensors(reference).items():
        assert torch.equal(item, trainable_tensors(copy)[name]), name


def test_only_triplets_are_trained_over_16_bit_weights() -> None:
    settings = {"_target_": "peft.AdaLoraConfig", "target_modules": "all-linear", **SCHEDULE}
    model = attach_adapter(make_model("llama", VOCABULARY_SIZE).to(torch.bfloat16), settings)
    kinds = {name.split(".")[-2] for name in trainable_tensors(model)}
    assert kinds == {"lora_A", "lora_B", "lora_E"}
