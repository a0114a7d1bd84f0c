"""The files of ``generate_cot``, and its account of every row and token."""

from __future__ import annotations

import contextlib
import json
import os
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from ift_lightning.teaching.generation import Generation, RowOutcome, Usage
from ift_lightning.teaching.levels import think_step_row
from ift_lightning.types import RejectedRow


@dataclass(frozen=True)
class CotFiles:
    """Where ``generate_cot`` reads and writes.

    ``output`` is a JSONL file. Beside it stand ``failed.jsonl`` (rows that got no reasoning, with
    the reason), ``report.json`` and ``answers.jsonl`` (the journal of the teacher's answers), each
    with the output's name in front.
    """

    input: Path
    output: Path
    form: str = "auto"  # of the rows read
    fields: Mapping[str, str] = field(default_factory=dict)  # our field -> the file's column

    def beside(self, name: str) -> Path:
        """Return the file ``name`` that belongs to the output."""
        return self.output.with_name(f"{self.output.stem}.{name}")


@dataclass(frozen=True, slots=True)
class Prices:
    """Of a million tokens; None where they are not known."""

    prompt: float | None = None
    completion: float | None = None
    currency: str = "USD"


class Accounts:
    """Writes rows where they belong, and counts them.

    Args:
        files: Where they belong.
        think_steps: Write a field for each level, rather than rows of our own form.
    """

    def __init__(self, files: CotFiles, *, think_steps: bool = False) -> None:
        self.files = files
        self.think_steps = think_steps
        self.num_changed = 0
        self.num_unchanged = 0
        self.num_with_tests = 0
        self.num_tested = 0  # rows whose tests are run on the teacher's code
        self.reasons: Counter[str] = Counter()

    def add(self, outcome: RowOutcome, output: IO[str], failed: IO[str]) -> None:
        """Write one row."""
        if outcome.record is None:
            reason = outcome.problems[-1]
            row = RejectedRow(outcome.raw.location, reason, outcome.field, dict(outcome.raw.values))
            self.reject(row, failed, outcome.problems)
            return
        if outcome.was_complete:
            self.num_unchanged += 1
        else:
            self.num_changed += 1
        record = outcome.record
        output.write(_json_line(think_step_row(record) if self.think_steps else record.to_json()))

    def reject(self, row: RejectedRow, failed: IO[str], attempts: list[str] | None = None) -> None:
        """Write a row that gets no reasoning, with the reason of every attempt."""
        self.reasons[_kind(row.reason)] += 1
        failed.write(_json_line({**row.to_json(), "attempts": attempts or []}))

    def report(self, generation: Generation, prices: Prices) -> dict[str, Any]:
        """Return what happened, in numbers."""
        num_failed = sum(self.reasons.values())
        return {
            "input": str(self.files.input),
            "output": str(self.files.output),
            "num_rows": self.num_changed + self.num_unchanged + num_failed,
            "num_changed": self.num_changed,
            "num_unchanged": self.num_unchanged,
            "num_failed": num_failed,
            "failed": dict(self.reasons.most_common()),
            "num_rows_with_tests": self.num_with_tests,
            "num_rows_tested": self.num_tested,
            "num_bad_answers": generation.num_bad_answers,
            "this_run": _with_cost(generation.paid, prices),
            "from_journal": _with_cost(generation.reused, prices),
            "currency": prices.currency,
        }


def _kind(reason: str) -> str:
    """Return a reason without what differs from row to row, to count by."""
    return reason.split(":")[0].split("(")[0].strip()[:80]


def _with_cost(usage: Usage, prices: Prices) -> dict[str, Any]:
    cost = None
    if prices.prompt is not None and prices.completion is not None:
        prompt = usage.num_prompt_tokens * prices.prompt
        cost = (prompt + usage.num_completion_tokens * prices.completion) / 1e6
    return {
        "num_answers": usage.num_answers,
        "num_prompt_tokens": usage.num_prompt_tokens,
        "num_completion_tokens": usage.num_completion_tokens,
        "cost": cost,
    }


def _json_line(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair, which may be why it was rejected
        text = json.dumps(value, ensure_ascii=True, default=str)
    return text + "\n"


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[IO[str]]:
    """Open a file that takes its name when it is whole, and leaves nothing where it is not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    hidden = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with hidden.open("w", encoding="utf-8") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        hidden.replace(path)
    finally:
        hidden.unlink(missing_ok=True)
