"""What an evaluation prints: a table of scores, and sample answers side by side."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

from ift_lightning.evaluation.predictions import Prediction

MAIN_METRICS = (
    "pass@1",
    "pass@10",
    "execution_success",
    "accuracy",
    "accuracy_macro",
    "invalid_answers",
    "majority_baseline",
    "exact_match",
    "bleu",
    "rougeL",
    "chrf",
    "codebleu",
    "extraction_failures",
    "cut_off",
)
"""Scores that are printed, in this order; the run record has all of them."""


def score_table(
    after: Mapping[str, float], before: Mapping[str, float] | None = None, *, prefix: str = "test"
) -> str:
    """Return the main scores, with those of the base model beside them where they are given.

    Args:
        after: Metrics by full name ("test/bleu").
        before: Likewise, of the base model.
        prefix: Of the names.
    """
    names = [f"{prefix}/{name}" for name in MAIN_METRICS if f"{prefix}/{name}" in after]
    width = max([22, *(len(name) + 1 for name in names)])
    lines = []
    if before is not None:
        lines.append(f"{'':>{width}}{'before':>10}{'after':>10}")
    for name in names:
        shown = f"{after[name]:>10.4f}"
        if before is not None:
            earlier = before.get(name)
            shown = ("" if earlier is None else f"{earlier:.4f}").rjust(10) + shown
        lines.append(f"{name:>{width}}{shown}")
    return "\n".join(lines)


def sample_answers(
    after: Sequence[Prediction],
    before: Sequence[Prediction] | None = None,
    *,
    at_most: int = 5,
    max_lines: int = 14,
    width: int = 100,
) -> str:
    """Return some answers, readable in a terminal: the task, before, after, and the verdicts.

    Args:
        after: Answers.
        before: Answers of the base model to the same rows.
        at_most: Rows to show, of as many categories as there are.
        max_lines: Lines of a text that are shown.
        width: Characters of a line that are shown.
    """
    earlier = {(p.item.id, p.completion.sample): p for p in before or ()}
    blocks = []
    for number, prediction in enumerate(_choose(after, at_most), start=1):
        item = prediction.item
        title = f"── {number}. {item.id}" + (f" ({item.category})" if item.category else "") + " "
        lines = [title.ljust(min(width, 78), "─"), _indented(item.question, max_lines, width)]
        other = earlier.get((item.id, prediction.completion.sample))
        if other is not None:
            lines += [f"  before: {_verdict(other)}", _answer(other, max_lines, width)]
        label = "after" if before is not None else "answer"
        lines += [f"  {label}: {_verdict(prediction)}", _answer(prediction, max_lines, width)]
        blocks.append("\n".join(lines))
    return "\n".join(blocks)


def exclusions(excluded: Mapping[str, str]) -> str:
    """Say which rows were left out of the scores, and why; empty where none was."""
    if not excluded:
        return ""
    shown = "\n".join(f"  {name}: {reason}" for name, reason in list(excluded.items())[:5])
    more = f"\n  … and {len(excluded) - 5} more" if len(excluded) > 5 else ""
    return f"left out of the scores: {len(excluded)} rows\n{shown}{more}\n"


def _choose(predictions: Sequence[Prediction], at_most: int) -> list[Prediction]:
    """Return first samples, a category after the other, in the rows' order within each."""
    by_category: dict[str, list[Prediction]] = {}
    for prediction in predictions:
        if prediction.completion.sample == 0:
            by_category.setdefault(prediction.item.category, []).append(prediction)
    chosen: list[Prediction] = []
    queues = list(by_category.values())
    while len(chosen) < at_most and any(queues):
        for queue in queues:
            if queue and len(chosen) < at_most:
                chosen.append(queue.pop(0))
    return chosen


def _verdict(prediction: Prediction) -> str:
    if prediction.verdict is not None:
        detail = f" ({prediction.detail})" if prediction.detail else ""
        return (prediction.verdict + detail).splitlines()[0][:90]
    if "exact_match" in prediction.metrics:
        return (
            "equal to the reference" if prediction.metrics["exact_match"] else "not the reference"
        )
    return "not run"


def _answer(prediction: Prediction, max_lines: int, width: int) -> str:
    text = prediction.completion.text
    return _indented(text if text.strip() else "(nothing)", max_lines, width)


def _indented(text: str, max_lines: int, width: int) -> str:
    lines = text.strip("\n").expandtabs(4).splitlines()
    more = len(lines) - max_lines
    if more > 0:
        lines = [*lines[:max_lines], f"… {more} more lines"]
    short = [line if len(line) <= width - 4 else line[: width - 5] + "…" for line in lines]
    # Control characters in an answer must not steer the terminal.
    safe = ["".join(c if c.isprintable() else "�" for c in line) for line in short]
    return textwrap.indent("\n".join(safe), "    ")
