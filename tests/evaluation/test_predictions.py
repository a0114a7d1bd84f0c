"""Reading answers from a file, and writing predictions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ift_lightning.errors import UserError
from ift_lightning.evaluation.extraction import Extracted, Extraction
from ift_lightning.evaluation.generation import Completion, FinishReason
from ift_lightning.evaluation.items import item_of
from ift_lightning.evaluation.predictions import Prediction, read_completions, write_predictions
from ift_lightning.types import InstructionRecord


def write(path: Path, *rows: Any) -> Path:
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_lines_with_one_id_are_samples_in_order(tmp_path: Path) -> None:
    path = write(
        tmp_path / "p.jsonl",
        {"id": "a", "completion": "1"},
        {"task_id": "b", "completion": "2", "finish_reason": "length"},
        "",
        {"id": "a", "completion": "3"},
        {"id": "b", "completion": "4", "num_tokens": 7},
    )
    found = read_completions(path, ["b", "a"])
    assert list(found) == ["b", "a"]
    assert [(c.sample, c.text) for c in found["a"]] == [(0, "1"), (1, "3")]
    assert [c.finish_reason for c in found["b"]] == [FinishReason.LENGTH, FinishReason.STOP]
    assert [c.num_tokens for c in found["b"]] == [0, 7]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"id": "a", "completion": "1"}], r"1 of the 2 rows have no prediction \(b\)"),
        (
            [{"id": x, "completion": "1"} for x in ("a", "b", "c")],
            r"1 of its ids belong to no row \(c; the first, 'c', in line 3\)",
        ),
        (
            [{"id": x, "completion": "1"} for x in ("a", "b", "a")],
            r"most rows have \d samples, and \w has another number",
        ),
        ([{"id": "a"}], r"p\.jsonl:1: field 'completion' is missing"),
        ([{"completion": "x"}], r"p\.jsonl:1: field 'id' is missing"),
        ([{"id": "a", "completion": 3.5}], r"p\.jsonl:1: field 'completion' has to be a string"),
        ([{"id": "a", "completion": "x"}, '{"id": '], r"p\.jsonl:2: not valid JSON"),
        (["[1]"], r"p\.jsonl:1: a line has to be an object"),
    ],
)
def test_predictions_that_do_not_match_are_refused(
    rows: list[Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        read_completions(write(tmp_path / "p.jsonl", *rows), ["a", "b"])


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere\.jsonl cannot be read"):
        read_completions(tmp_path / "nowhere.jsonl", ["a"])


def test_prediction_line_has_the_fields_that_reports_read(tmp_path: Path) -> None:
    record = InstructionRecord(
        "a", "Do.", "x", "y", category="kind", subtype="1_step", language="python"
    )
    prediction = Prediction(
        item_of(record, "Do.\n\nx"),
        Completion("a", 1, "写 \ud800", FinishReason.STOP, 4),
        Extraction("写", Extracted.CODE),
        verdict="pass",
        metrics={"bleu": 12.5},
    )
    path = tmp_path / "deep" / "predictions.jsonl"
    write_predictions(path, [prediction])
    assert json.loads(path.read_text(encoding="utf-8")) == {
        "id": "a",
        "sample": 1,
        "category": "kind",
        "subtype": "1_step",
        "language": "python",
        "prompt": "Do.\n\nx",
        "completion": "写 \ud800",
        "extracted": "写",
        "extraction": "code",
        "reference": "y",
        "verdict": "pass",
        "detail": "",
        "finish_reason": "stop",
        "num_tokens": 4,
        "metrics": {"bleu": 12.5},
    }
    # What was written can be scored again.
    assert read_completions(path, ["a"])["a"][0].num_tokens == 4
