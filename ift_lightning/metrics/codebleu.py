"""CodeBLEU with its four parts, by the package codebleu, in a process with a fixed hash seed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ift_lightning.metrics.registry import MetricResult, check_pairs, metric

CODEBLEU_LANGUAGES = (
    "c", "c_sharp", "cpp", "go", "java", "javascript", "php", "python", "ruby", "rust",
)  # fmt: skip
_ALIASES = {
    "c#": "c_sharp", "csharp": "c_sharp", "cs": "c_sharp", "c++": "cpp", "golang": "go",
    "js": "javascript", "py": "python", "python3": "python", "rb": "ruby", "rs": "rust",
}  # fmt: skip
_PARTS = ("ngram", "weighted_ngram", "syntax", "dataflow")
_SCORES = ("codebleu", *(f"codebleu/{part}" for part in _PARTS), "codebleu_upstream")
_SCRIPT = Path(__file__).with_name("codebleu_process.py")


def codebleu_language(language: str) -> str | None:
    """Return the package's name for a language, or None where it has no grammar for it."""
    name = language.strip().lower()
    name = _ALIASES.get(name, name)
    return name if name in CODEBLEU_LANGUAGES else None


@metric(
    "codebleu",
    unit="0 to 1",
    higher_is_better=True,
    source="https://arxiv.org/abs/2009.10297",
    needs_language=True,
    scores=_SCORES,
)
def codebleu(
    predictions: Sequence[str], references: Sequence[str], *, language: str = "python"
) -> MetricResult:
    """CodeBLEU: the mean of n-gram, weighted n-gram, syntax and data-flow match.

    Where no reference has a data flow, ``codebleu`` is the mean of the other three. The package
    counts a data-flow match of zero as full credit, a true zero too, so that an empty answer scores
    0.25; its value stands beside ours as ``codebleu_upstream``.

    The package's data flow depends on the order of sets of strings. It runs in a process of its
    own, with ``PYTHONHASHSEED=0``.

    A prediction that nests deeper than 1000 levels, and than its reference, is scored as an empty
    one: the package's memory and time grow with the square of the depth. ``num_too_deep`` in the
    details counts them.

    Args:
        predictions: One for each item.
        references: One for each item.
        language: Of the code; see :data:`CODEBLEU_LANGUAGES`.

    Returns:
        ``codebleu``, ``codebleu/ngram``, ``codebleu/weighted_ngram``, ``codebleu/syntax``,
        ``codebleu/dataflow`` (left out where no reference has any) and ``codebleu_upstream``.

    Raises:
        ValueError: There is no grammar for the language.
    """
    check_pairs(predictions, references)
    name = codebleu_language(language)
    if name is None:
        raise ValueError(
            f"CodeBLEU has no grammar for '{language}'; it has: {', '.join(CODEBLEU_LANGUAGES)}"
        )
    corpus, items, num_too_deep = _measure(list(predictions), list(references), name)
    names = list(corpus)
    per_item = {key: [item.get(key) for item in items] for key in names}
    details: dict[str, Any] = {"language": name}
    if num_too_deep:
        details["num_too_deep"] = num_too_deep
    return MetricResult(_known(corpus), per_item, details)


def _known(scores: dict[str, float | None]) -> dict[str, float]:
    return {key: value for key, value in scores.items() if value is not None}


def _measure(
    predictions: list[str], references: list[str], language: str
) -> tuple[dict[str, float | None], list[dict[str, float | None]], int]:
    """Return the scores of the corpus, those of each item, and the number of too deep ones."""
    request = {"language": language, "predictions": predictions, "references": references}
    done = subprocess.run(
        # -P: this folder has a module of the name codebleu, too.
        [sys.executable, "-P", str(_SCRIPT)],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONHASHSEED": "0"},
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"CodeBLEU failed:\n{done.stderr[-2000:]}")
    answer: dict[str, Any] = json.loads(done.stdout)
    items = [_scores(item) for item in answer["items"]]
    return _scores(answer["corpus"]), items, int(answer["num_too_deep"])


def _scores(raw: dict[str, Any]) -> dict[str, float | None]:
    """Return our scores from what the package says, and whether there is a data flow."""
    parts = {part: float(raw[part]) for part in _PARTS}
    has_dataflow = bool(raw["has_dataflow"])
    counted = [parts[part] for part in _PARTS if part != "dataflow" or has_dataflow]
    scores: dict[str, float | None] = {"codebleu": sum(counted) / len(counted)}
    scores |= {f"codebleu/{part}": parts[part] for part in _PARTS}
    if not has_dataflow:
        scores["codebleu/dataflow"] = None
    scores["codebleu_upstream"] = float(raw["upstream"])
    return scores
