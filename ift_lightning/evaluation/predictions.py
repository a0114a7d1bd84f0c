"""``predictions.jsonl``: a line for each answer, written by evaluations and read by reports."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ift_lightning.errors import UserError
from ift_lightning.evaluation.extraction import Extraction
from ift_lightning.evaluation.generation import Completion, FinishReason
from ift_lightning.evaluation.items import EvaluationItem

_SHOWN = 5  # ids spelled out in a message


@dataclass(slots=True)
class Prediction:
    """An answer with what became of it; a line of ``predictions.jsonl``.

    Args:
        item: What was asked.
        completion: What was written.
        extraction: The answer in it.
        verdict: What running it gave ("pass", "fail", …); None where it is not a program.
        detail: One line on the verdict.
        metrics: Scores of this answer alone, by name.
        excluded: Why the row is left out of the scores; None where it is not.
    """

    item: EvaluationItem
    completion: Completion
    extraction: Extraction
    verdict: str | None = None
    detail: str = ""
    metrics: dict[str, Any] = field(default_factory=dict)
    excluded: str | None = None

    def to_json(self) -> dict[str, Any]:
        item, completion = self.item, self.completion
        row = {
            "id": item.id,
            "sample": completion.sample,
            "category": item.category,
            "subtype": item.subtype,
            "language": item.language,
            "prompt": item.prompt,
            "completion": completion.text,
            "extracted": self.extraction.code,
            "extraction": self.extraction.status.value,
            "reference": item.reference,
            "verdict": self.verdict,
            "detail": self.detail,
            "finish_reason": completion.finish_reason.value,
            "num_tokens": completion.num_tokens,
            "metrics": self.metrics,
        }
        if self.excluded is not None:
            row["excluded"] = self.excluded
        return row


def write_predictions(path: Path, predictions: Iterable[Prediction]) -> None:
    """Write predictions, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}.part")
    with temporary.open("w", encoding="utf-8", errors="backslashreplace") as file:
        for prediction in predictions:
            file.write(json.dumps(prediction.to_json(), ensure_ascii=False, allow_nan=False) + "\n")
    temporary.replace(path)


def read_completions(path: Path, item_ids: Sequence[str]) -> dict[str, list[Completion]]:
    """Read completions from a JSONL file of ``id`` (or ``task_id``) and ``completion``.

    Several lines with one id are several samples, in the order of the file. A line may say with
    ``finish_reason="length"`` that it was cut off.

    Args:
        path: The file.
        item_ids: Ids of the rows that the predictions are for.

    Raises:
        UserError: A line cannot be read, an id belongs to no row, or a row has no prediction.
    """
    known = set(item_ids)
    found: dict[str, list[Completion]] = {}
    unknown: dict[str, int] = {}
    for number, row in _rows(path):
        name = _text(row, ("id", "task_id"), path, number)
        text = _text(row, ("completion",), path, number)
        if name not in known:
            unknown.setdefault(name, number)
            continue
        samples = found.setdefault(name, [])
        cut_off = row.get("finish_reason") == FinishReason.LENGTH.value
        reason = FinishReason.LENGTH if cut_off else FinishReason.STOP
        num_tokens = row.get("num_tokens")
        samples.append(
            Completion(
                name, len(samples), text, reason, num_tokens if isinstance(num_tokens, int) else 0
            )
        )
    missing = [name for name in item_ids if name not in found]
    if unknown or missing:
        raise UserError(_mismatch(path, unknown, missing, len(item_ids)))
    counts = Counter(len(samples) for samples in found.values())
    if len(counts) > 1:
        usual = counts.most_common(1)[0][0]
        odd = [name for name in item_ids if len(found[name]) != usual]
        raise UserError(
            f"predictions={path}: most rows have {usual} samples, and {_names(odd)} "
            f"{'has' if len(odd) == 1 else 'have'} another number; every row needs as many"
        )
    return {name: found[name] for name in item_ids}


def _rows(path: Path) -> Iterable[tuple[int, Mapping[str, Any]]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"predictions={path} cannot be read: {error}") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise UserError(f"{path}:{number}: not valid JSON: {error}") from error
        if not isinstance(row, dict):
            raise UserError(f"{path}:{number}: a line has to be an object with id and completion")
        yield number, row


def _text(row: Mapping[str, Any], names: Sequence[str], path: Path, number: int) -> str:
    for name in names:
        if row.get(name) is not None:
            value = row[name]
            if isinstance(value, int) and not isinstance(value, bool):
                value = str(value)
            if not isinstance(value, str):
                raise UserError(f"{path}:{number}: field '{name}' has to be a string")
            return value
    raise UserError(f"{path}:{number}: field '{names[0]}' is missing")


def _mismatch(
    path: Path, unknown: Mapping[str, int], missing: Sequence[str], num_items: int
) -> str:
    parts = []
    if unknown:
        name, number = next(iter(unknown.items()))
        parts.append(
            f"{len(unknown)} of its ids belong to no row ({_names(list(unknown))}; the first, "
            f"'{name}', in line {number})"
        )
    if missing:
        parts.append(f"{len(missing)} of the {num_items} rows have no prediction "
                     f"({_names(missing)})")  # fmt: skip
    return (
        f"predictions={path} do not match the rows: {'; '.join(parts)}. Check that data, "
        "data.path and the split are those that the predictions were made for"
    )


def _names(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
