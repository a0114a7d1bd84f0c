"""Batches of pretraining text are a pure function of seed and number, and whole texts."""

from __future__ import annotations

import pytest
import torch

from ift_lightning.data.drills import generate_drills, generate_pretraining_texts
from ift_lightning.data.pretraining.blocks import (
    PretrainingBatches,
    PretrainingDataModule,
    max_steps_at,
)
from ift_lightning.data.pretraining.tokenizer import train_tokenizer


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(320, num_texts=60, seed=0, max_positions=128)


def batches(tokenizer, **changes) -> PretrainingBatches:
    settings = {
        "rows_per_batch": 3, "block_length": 96, "num_batches": 10, "seed": 0,
        "library_share": 0.0, "curriculum": 0.5,
    }  # fmt: skip
    return PretrainingBatches(tokenizer, **(settings | changes))


def test_any_text_can_be_encoded(tokenizer) -> None:
    assert len(tokenizer) == 320
    for text in ("x = 1\n", "判断：有缺陷", "naïve 🙂\t\x00"):
        ids = tokenizer(text).input_ids
        assert ids[0] == tokenizer.bos_token_id
        assert tokenizer.decode(ids[1:]) == text


def test_digits_stay_apart(tokenizer) -> None:
    ids = tokenizer("n = 2048", add_special_tokens=False).input_ids
    assert [tokenizer.decode([i]).strip() for i in ids[-4:]] == ["2", "0", "4", "8"]


def test_a_batch_depends_on_seed_and_number_alone(tokenizer) -> None:
    first, second = batches(tokenizer), batches(tokenizer)
    assert first[4].shape == (3, 96) and first[4].dtype == torch.int64
    second[0]
    assert torch.equal(first[4], second[4])
    assert not torch.equal(first[4], first[5])
    assert not torch.equal(first[4], batches(tokenizer, seed=1)[4])


def test_rows_are_texts_from_bos_to_eos(tokenizer) -> None:
    row = batches(tokenizer, block_length=2000)[9][0].tolist()
    assert row[0] == tokenizer.bos_token_id
    ends = [index for index, token in enumerate(row[:-1]) if token == tokenizer.eos_token_id]
    assert ends and all(row[index + 1] == tokenizer.bos_token_id for index in ends)
    assert "def " in tokenizer.decode(row[1 : ends[0]])


def test_a_share_of_the_rows_is_the_standard_library(tokenizer) -> None:
    only = batches(tokenizer, library_share=1.0, rows_per_batch=20)
    assert not (only[0][:, :-1] == tokenizer.bos_token_id).all(dim=1).any()
    text = tokenizer.decode(torch.cat([only[i].flatten() for i in range(4)]).tolist())
    assert "self." in text and "import" in text


@pytest.mark.parametrize(
    ("progress", "steps"), [(0.0, 1), (0.12, 1), (0.13, 2), (0.29, 2), (0.31, 3), (0.5, 5), (1, 5)]
)
def test_curriculum(progress: float, steps: int) -> None:
    assert max_steps_at(progress, 0.5) == steps
    assert max_steps_at(progress, 0.0) == 5


def test_loader_goes_on_with_the_next_batch(tokenizer) -> None:
    module = PretrainingDataModule(batches(tokenizer), [])
    loader = module.train_dataloader()
    iterator = iter(loader)
    seen = [next(iterator) for _ in range(4)]
    resumed = module.train_dataloader()
    resumed.load_state_dict(loader.state_dict())
    assert torch.equal(next(iter(resumed)), batches(tokenizer)[4])
    assert torch.equal(seen[3], batches(tokenizer)[3])


def test_no_pretraining_text_holds_an_instruction() -> None:
    texts = "\n".join(generate_pretraining_texts(500, seed=3))
    for record in generate_drills("train", 200):
        assert record.instruction not in texts
    assert "### Instruction" not in texts and "Below is an instruction" not in texts
