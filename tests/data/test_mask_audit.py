"""What the audit counts, when it stops a run, and what a sample looks like."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ift_lightning.data.mask_audit import MASKED, RESET, SUPERVISED, audit_masks, render_sample
from ift_lightning.data.split_files import TokenizedSplit
from ift_lightning.errors import UserError
from ift_lightning.types import TokenizedExample

MakeSplit = Callable[..., TokenizedSplit]


def test_counts(make_split: MakeSplit) -> None:
    splits = {"train": make_split([(10, 4), (6, 0), (4, 4)]), "val": make_split([])}
    assert audit_masks(splits) == {
        "train": {
            "num_rows": 3,
            "num_tokens": 20,
            "num_target_tokens": 8,
            "supervised_share": 0.4,
            "longest_row": 10,
            "num_prompts_cut": 2,  # numbered_example cuts rows 1 and 2
            "num_answers_cut": 0,
            "end_supervised_share": pytest.approx(2 / 3),
        }
    }


def test_too_little_supervised_stops_the_run(make_split: MakeSplit) -> None:
    splits = {"train": make_split([(10, 1), (10, 1)])}
    audit_masks(splits, min_supervised_share=0.1)
    with pytest.raises(UserError, match="10.00% .*audit.min_supervised_share=11.00%"):
        audit_masks(splits, min_supervised_share=0.11)


def test_nothing_supervised_stops_the_run(make_split: MakeSplit) -> None:
    with pytest.raises(UserError, match="no token of the training rows is supervised"):
        audit_masks({"train": make_split([(10, 0)])})


def test_no_training_rows_stop_the_run(make_split: MakeSplit) -> None:
    with pytest.raises(UserError, match="no training rows"):
        audit_masks({"train": make_split([]), "val": make_split([(3, 1)])})


def sample(tokenizer: Any, *pieces: tuple[str, float]) -> TokenizedExample:
    input_ids: list[int] = []
    weights: list[float] = []
    for text, weight in pieces:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        input_ids += ids
        weights += [weight] * len(ids)
    return TokenizedExample("r", input_ids, weights, 0, True)


def test_sample_marks_what_is_supervised(tokenizer: Any) -> None:
    example = sample(
        tokenizer,
        ("问题 x?\n", 0.0),
        ("回答 y", 1.0),
        ("!", 3.0),
        ("\nq\n", 0.0),
        ("a<|eos|>", 1.0),
    )
    plain = render_sample(example, tokenizer, color=False)
    assert plain == "问题 x?\n⟦回答 y!⟧\nq\n⟦a<|eos|>⟧"
    colored = render_sample(example, tokenizer, color=True)
    assert colored == (
        f"{MASKED}问题 x?\n{RESET}{SUPERVISED}回答 y!{RESET}{MASKED}\nq\n{RESET}"
        f"{SUPERVISED}a<|eos|>{RESET}"
    )
