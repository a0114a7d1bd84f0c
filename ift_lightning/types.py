"""The values that flow through the pipeline, in the order in which they appear.

raw row -> :class:`InstructionRecord` -> :class:`Segment` list -> :class:`TokenizedExample` ->
:class:`Batch` -> outcomes -> :class:`RunRecord`.

Shape suffixes used in the package: ``B`` rows of a micro-batch, ``T`` tokens of its longest row,
``N`` supervised positions of a micro-batch, ``H`` hidden size, ``V`` vocabulary size.

This module imports nothing of ours and nothing heavy, so that a data tool which never touches a
model does not pay for ``torch``.
"""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

REASONING_LEVELS = ("simple", "normal", "complex")
"""Levels of a written chain of thought, from the shortest to the longest."""

NO_REASONING = "none"
"""Stands beside the levels where an arm of a comparison has no reasoning."""

SPLITS = ("train", "val", "test")


@dataclass(frozen=True, slots=True)
class RowLocation:
    """Where a raw row came from, in the words of an editor."""

    file: str
    line: int | None = None  # 1-based; None where the format has no lines (Parquet, a hub table)
    row: int | None = None  # 0-based position among the rows of the file

    def __str__(self) -> str:
        if self.line is not None:
            return f"{self.file}:{self.line}"
        if self.row is not None:
            return f"{self.file} (row {self.row})"
        return self.file


@dataclass(frozen=True, slots=True)
class RawRow:
    """A row as its file holds it, before an adapter reads it."""

    values: Mapping[str, Any]
    location: RowLocation
    split: str | None = None  # set where the source itself says which split the row belongs to


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a chat."""

    role: str  # "system", "user" or "assistant"
    content: str


@dataclass(frozen=True, slots=True)
class InstructionRecord:
    """One row in the project's own form; every other form is mapped to it by an adapter.

    Either ``instruction`` / ``input`` / ``output`` are set, or ``messages`` is, never both.
    """

    id: str
    instruction: str = ""
    input: str = ""
    output: str = ""  # the reference answer
    messages: tuple[Message, ...] = ()
    reasoning: Mapping[str, str] = field(default_factory=dict)  # level -> text
    language: str = ""  # of the code, lower case: "python"
    category: str = ""
    subtype: str = ""
    entry_point: str = ""  # name of the function that `tests` call
    tests: Sequence[Any] | str = ()  # {"args", "kwargs", "expected"} dicts, asserts, or one string

    def to_json(self) -> dict[str, Any]:
        """Return the row as it stands on disk: JSON values only, empty fields left out."""
        # Not asdict: its deep copies took a third of the time of a data tool.
        row: dict[str, Any] = {name: getattr(self, name) for name in self.__dataclass_fields__}
        row["messages"] = [dataclasses.asdict(message) for message in self.messages]
        tests = self.tests
        row["tests"] = tests if isinstance(tests, str) else list(tests)
        row["reasoning"] = dict(self.reasoning)
        return {key: value for key, value in row.items() if key == "id" or value}


def content_id(*parts: str) -> str:
    """Return the id of a row that has none of its own: 16 hexadecimal digits of its content.

    The parts are framed by their lengths, so that ``("ab", "c")`` and ``("a", "bc")`` differ.
    """
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "big"))
        digest.update(data)
    return digest.hexdigest()[:16]


def json_fingerprint(value: Any) -> str:
    """Return 16 hexadecimal digits that identify a JSON value, whatever the order of its keys."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class RejectedRow:
    """A row that was left out, with the reason; a line of ``rejected.jsonl``."""

    location: RowLocation
    reason: str
    field: str | None = None
    row: Any = None

    def to_json(self) -> dict[str, Any]:
        return {
            "file": self.location.file,
            "line": self.location.line,
            "row_number": self.location.row,
            "field": self.field,
            "reason": self.reason,
            "row": self.row,
        }


class Role(enum.StrEnum):
    """What a stretch of a rendered example is; each role has a loss weight."""

    PROMPT = "prompt"
    REASONING = "reasoning"
    ANSWER = "answer"
    END = "end"


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of rendered text. Tokens are made per segment, so its boundaries are exact."""

    text: str
    role: Role


@dataclass(frozen=True, slots=True)
class TokenizedExample:
    """Token ids of one example; all lists have the same length.

    ``loss_weights[t]`` weighs the prediction of ``input_ids[t]`` (from the positions before it).
    """

    id: str
    input_ids: list[int]
    loss_weights: list[float]
    num_prompt_tokens: int  # length of the generation prompt: the ids before the last answer
    end_is_supervised: bool  # whether the last assistant turn's end token has a weight above 0
    num_cut_tokens: int = 0  # prompt tokens cut from the left to fit `max_seq_length`
    # Role -> target tokens of its segments; empty where a builder does not tell roles apart.
    target_tokens_by_role: Mapping[str, int] = field(default_factory=dict, compare=False)

    @property
    def num_target_tokens(self) -> int:
        return sum(1 for weight in self.loss_weights if weight > 0)


@dataclass(slots=True)
class Batch:
    """One micro-batch, right-padded, with the divisor of the optimizer step it belongs to."""

    input_ids: torch.Tensor  # int64 [B, T]
    attention_mask: torch.Tensor  # int64 [B, T], 1 on real tokens
    loss_weights: torch.Tensor  # float32 [B, T], 0 on prompts and padding
    step_weight: float  # sum of loss_weights over all micro-batches and ranks of the step
    row_ids: tuple[str, ...] = ()

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """Return the batch with its tensors on ``device``."""
        return dataclasses.replace(
            self,
            input_ids=self.input_ids.to(device, non_blocking=non_blocking),
            attention_mask=self.attention_mask.to(device, non_blocking=non_blocking),
            loss_weights=self.loss_weights.to(device, non_blocking=non_blocking),
        )


class RunStatus(enum.StrEnum):
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


RUN_RECORD_SCHEMA = 1


@dataclass(slots=True)
class RunRecord:
    """What ``run.json`` says about a run; ``docs/architecture.md`` explains the fields."""

    name: str
    seed: int
    overrides: list[str]
    config_fingerprint: str
    resume_fingerprint: str | None = None  # the config without the run's length
    evaluation_fingerprint: str | None = None  # how answers are made and scored
    sandbox_fingerprint: str | None = None  # what a generated program may use
    status: RunStatus = RunStatus.RUNNING
    error: str | None = None
    model: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    audit: dict[str, Any] = field(default_factory=dict)
    performance: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    started_at: str = ""  # ISO 8601, UTC
    finished_at: str | None = None
    reused_from: str | None = None  # folder of the same run in another sweep, which stands in here
    schema: int = RUN_RECORD_SCHEMA

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)
