"""Reads ``predictions.jsonl``: one line for each answer, with its scores."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from ift_lightning.errors import UserError

AFTER_FILE = "predictions.jsonl"
BEFORE_FILE = "predictions_before.jsonl"


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer to one problem.

    Args:
        id: Of the problem.
        sample: Number of the answer, from 0, where a problem has several.
        scores: Scores of this answer alone, by name; fractions lie between 0 and 1.
        excluded: Why the problem is left out of the scores; None where it is not.
    """

    id: str
    sample: int
    category: str
    subtype: str
    prompt: str
    completion: str
    extracted: str
    reference: str
    verdict: str | None
    num_tokens: int | None
    scores: dict[str, float]
    labels: dict[str, str] = field(default_factory=dict)
    excluded: str | None = None


@dataclass(frozen=True)
class Predictions:
    """All answers of an evaluation, in the order of the file."""

    path: Path
    answers: tuple[Answer, ...]

    @cached_property
    def by_problem(self) -> dict[str, list[Answer]]:
        """Answers of each problem that counts, in the order of the file."""
        found: dict[str, list[Answer]] = {}
        for answer in self.answers:
            if answer.excluded is None:
                found.setdefault(answer.id, []).append(answer)
        return found

    @cached_property
    def excluded(self) -> dict[str, str]:
        """Problem to the reason why it does not count."""
        return {a.id: a.excluded for a in self.answers if a.excluded is not None}

    @property
    def num_samples(self) -> int:
        """Answers to a problem, at most."""
        return max((len(answers) for answers in self.by_problem.values()), default=0)

    def score_names(self) -> list[str]:
        """Names of the scores that any answer has, in order of appearance."""
        return list(dict.fromkeys(name for answer in self.answers for name in answer.scores))

    def mean_tokens(self) -> float | None:
        """Generated tokens of an answer, on average; None where the file does not say."""
        counts = [a.num_tokens for a in self.answers if a.num_tokens is not None]
        return sum(counts) / len(counts) if counts else None


def read_predictions(path: Path) -> Predictions:
    """Read a file of predictions.

    Raises:
        UserError: A line is no JSON object, or has no ``id``.
    """
    return Predictions(path, tuple(_answers(path)))


def _answers(path: Path) -> Iterator[Answer]:
    seen: dict[str, int] = {}
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    answer = _answer(line, f"{path}:{number}", seen)
                    seen[answer.id] = seen.get(answer.id, 0) + 1
                    yield answer
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error


def _answer(line: str, where: str, seen: dict[str, int]) -> Answer:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise UserError(f"{where}: not valid JSON: {error}") from error
    if not isinstance(row, dict) or not isinstance(row.get("id"), str):
        raise UserError(f"{where}: a prediction has to be an object with a string 'id'")
    metrics = row.get("metrics") or {}
    if not isinstance(metrics, dict):
        raise UserError(f"{where}: field 'metrics' has to be an object")
    sample = row.get("sample")
    tokens = row.get("num_tokens")
    verdict = row.get("verdict")
    scores, labels = _scores(metrics)
    if verdict is not None and "pass" not in scores:
        scores["pass"] = float(verdict == "pass")
    return Answer(
        id=row["id"],
        sample=sample if isinstance(sample, int) else seen.get(row["id"], 0),
        category=_text(row, "category"),
        subtype=_text(row, "subtype"),
        prompt=_text(row, "prompt"),
        completion=_text(row, "completion"),
        extracted=_text(row, "extracted"),
        reference=_text(row, "reference"),
        verdict=verdict,
        num_tokens=tokens if isinstance(tokens, int) else None,
        scores=scores,
        labels=labels,
        excluded=row.get("excluded"),
    )


def _text(row: dict[str, Any], key: str) -> str:
    value = row.get(key)
    return value if isinstance(value, str) else ""


def _scores(metrics: dict[str, Any]) -> tuple[dict[str, float], dict[str, str]]:
    """Split metrics into numbers and texts (a judgement's predicted class)."""
    scores, labels = {}, {}
    for name, value in metrics.items():
        if isinstance(value, bool | int | float):
            scores[name] = float(value)
        elif isinstance(value, str):
            labels[name] = value
    return scores, labels
