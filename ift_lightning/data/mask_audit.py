"""What a run is about to train on: how much is supervised, and whether the model learns to stop."""

from __future__ import annotations

from typing import Any

from ift_lightning.data.split_files import TokenizedSplit
from ift_lightning.errors import UserError
from ift_lightning.types import TokenizedExample

SUPERVISED, MASKED, RESET = "\033[1;32m", "\033[2m", "\033[0m"


def audit_masks(
    splits: dict[str, TokenizedSplit], *, min_supervised_share: float = 0.0
) -> dict[str, Any]:
    """Count supervised tokens and end tokens of each split.

    Args:
        splits: Tokenized splits.
        min_supervised_share: Smallest share of training tokens that may be supervised, in [0, 1].

    Returns:
        For each split with rows: rows, tokens, target tokens and their share, the longest row,
        rows whose prompt was cut, and the share of rows whose end token is supervised.

    Raises:
        UserError: There are no training rows, nothing is supervised, or too little is.
    """
    result: dict[str, Any] = {}
    for name, split in splits.items():
        counts = split.statistics
        if counts.num_rows == 0:
            continue
        result[name] = {
            "num_rows": counts.num_rows,
            "num_tokens": counts.num_tokens,
            "num_target_tokens": counts.num_target_tokens,
            "supervised_share": counts.num_target_tokens / counts.num_tokens,
            "longest_row": counts.longest,
            "num_prompts_cut": counts.num_truncated,
            "num_answers_cut": 0,  # an answer is never cut: such a row is rejected
            "end_supervised_share": counts.num_ends_supervised / counts.num_rows,
        }
    train = result.get("train")
    if train is None:
        raise UserError(
            "there are no training rows: all went to validation, test or rejected.jsonl. Look at "
            "data.val_fraction, data.test_fraction and data.num_train"
        )
    if train["num_target_tokens"] == 0:
        raise UserError("mask audit: no token of the training rows is supervised")
    if train["supervised_share"] < min_supervised_share:
        raise UserError(
            f"mask audit: {train['supervised_share']:.2%} of the training tokens are supervised, "
            f"less than audit.min_supervised_share={min_supervised_share:.2%}"
        )
    return result


def sample_pieces(example: TokenizedExample, tokenizer: Any) -> list[tuple[str, bool]]:
    """Return an example's text as stretches, each with whether it is supervised.

    Args:
        example: Token ids and loss weights.
        tokenizer: Decodes them.
    """
    pieces = []
    start = 0
    ids, weights = example.input_ids, example.loss_weights
    before = ""
    while start < len(ids):
        supervised = weights[start] > 0
        stop = start
        while stop < len(ids) and (weights[stop] > 0) == supervised:
            stop += 1
        text = tokenizer.decode(ids[:stop], clean_up_tokenization_spaces=False)
        pieces.append((text[len(before) :], supervised))
        before, start = text, stop
    return pieces


def render_sample(example: TokenizedExample, tokenizer: Any, *, color: bool) -> str:
    """Return an example's text with its supervised spans marked.

    Args:
        example: Token ids and loss weights.
        tokenizer: Decodes them.
        color: Mark with terminal colours; otherwise with ⟦ and ⟧.
    """
    marked = []
    for text, supervised in sample_pieces(example, tokenizer):
        if color:
            marked.append(f"{SUPERVISED if supervised else MASKED}{text}{RESET}")
        else:
            marked.append(f"⟦{text}⟧" if supervised else text)
    return "".join(marked)
