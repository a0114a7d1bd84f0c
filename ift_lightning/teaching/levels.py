"""The task itself: which levels a row lacks, how to ask for them, and what may be kept."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any

from ift_lightning.errors import BadRowError
from ift_lightning.teaching.exchange import TeacherAnswer, TeacherRequest
from ift_lightning.teaching.prompts import CODE_FIELD, CotPrompts, think_step
from ift_lightning.teaching.replies import BadReplyError, read_fields, without_fence
from ift_lightning.types import REASONING_LEVELS, InstructionRecord

CodeCheck = Callable[[InstructionRecord, str], str | None]
"""Runs a row's tests on code; returns why it does not pass, or None where it does."""

_BLOCK_MARK = re.compile(r"</?think>", re.IGNORECASE)


class ReasoningLevels:
    """Turns rows into requests, and answers into rows with reasoning at every level.

    Args:
        prompts: What the teacher is told.
        from_complex: Shorten the row's own complex reasoning; otherwise write all three levels.
        check_code: Runs the tests of rows that have any, on the code that the teacher gives
            behind its reasoning; None asks for no code.
    """

    def __init__(
        self, prompts: CotPrompts, *, from_complex: bool, check_code: CodeCheck | None = None
    ) -> None:
        self.prompts = prompts
        self.from_complex = from_complex
        self.check_code = check_code
        self.levels = ("simple", "normal") if from_complex else REASONING_LEVELS

    def is_complete(self, record: InstructionRecord) -> bool:
        """Whether the row has every level already."""
        return all(record.reasoning.get(level, "").strip() for level in REASONING_LEVELS)

    def request(self, record: InstructionRecord, attempt: int = 0) -> TeacherRequest:
        """Return what to ask about a row.

        Raises:
            BadRowError: The row has no complex reasoning to start from.
        """
        if self.from_complex and not record.reasoning.get("complex", "").strip():
            raise BadRowError(
                "the row has no reasoning at level 'complex' to shorten; use cot.source=row to "
                "have all three levels written",
                field="reasoning.complex",
            )
        messages = self.prompts.messages(record, self.levels, wants_code=self._wants_code(record))
        return TeacherRequest(record.id, messages, attempt)

    def _wants_code(self, record: InstructionRecord) -> bool:
        return self.check_code is not None and has_runnable_tests(record)

    def read(self, record: InstructionRecord, answer: TeacherAnswer) -> InstructionRecord:
        """Return the row with the reasoning of an answer.

        Raises:
            BadReplyError: The answer must not become a training target.
        """
        names = [think_step(level) for level in self.levels]
        wants_code = self._wants_code(record)
        fields = read_fields(answer, [*names, CODE_FIELD] if wants_code else names)
        written = {level: fields[think_step(level)].strip() for level in self.levels}
        for level, text in written.items():
            if _BLOCK_MARK.search(text):
                raise BadReplyError(f"{think_step(level)} has a <think> mark in it")
        reasoning = {**record.reasoning, **written}
        _check_order(reasoning)
        if wants_code:
            assert self.check_code is not None
            problem = self.check_code(record, without_fence(fields[CODE_FIELD]))
            if problem is not None:
                raise BadReplyError(f"the code after the reasoning fails the tests: {problem}")
        ordered = {level: reasoning[level] for level in REASONING_LEVELS}
        return dataclasses.replace(record, reasoning=ordered)


def has_runnable_tests(record: InstructionRecord) -> bool:
    """Whether a row has tests, and of a kind that can be run: those of Python code."""
    return bool(record.tests) and record.language in ("", "python", "py", "python3")


def _check_order(reasoning: Mapping[str, str]) -> None:
    lengths = [len(reasoning[level].strip()) for level in REASONING_LEVELS]
    if not lengths[0] < lengths[1] < lengths[2]:
        shown = ", ".join(
            f"{level} {length}" for level, length in zip(REASONING_LEVELS, lengths, strict=True)
        )
        raise BadReplyError(f"the levels are not ordered by length (characters: {shown})")


def think_step_row(record: InstructionRecord) -> dict[str, Any]:
    """Return a row in the form of ``CoT_complex_data_generate``: a field for each level."""
    row = record.to_json()
    for level, text in row.pop("reasoning", {}).items():
        row[think_step(level)] = text
    return row
