"""What an evaluation asks, and what a right answer looks like."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ift_lightning.evaluation.extraction import Extraction, extract_answer, extract_program
from ift_lightning.types import InstructionRecord


@dataclass(frozen=True, slots=True)
class EvaluationItem:
    """One test row.

    Args:
        id: The row's id.
        prompt: The text that the model sees, rendered; what predictions show.
        question: The row's own part of it, for display.
        reference: The reference answer.
        language: Of the reference, lower case; empty where it is not known.
        category: Kind of task.
        subtype: Finer kind.
        entry_point: Function that the tests call.
        tests: As in :class:`InstructionRecord`; empty where the answer cannot be run.
        code_prompt: Code that the answer continues, as in HumanEval.
    """

    id: str
    prompt: str
    question: str
    reference: str
    language: str = ""
    category: str = ""
    subtype: str = ""
    entry_point: str = ""
    tests: Sequence[Any] | str = ()
    code_prompt: str = ""

    @property
    def is_runnable(self) -> bool:
        """Whether an answer is a program with tests."""
        return bool(self.tests)

    def extract(self, completion: str, *, is_cut_off: bool = False) -> Extraction:
        """Return the answer in a raw completion; see :mod:`ift_lightning.evaluation.extraction`."""
        if not self.is_runnable:
            return extract_answer(completion, is_cut_off=is_cut_off)
        return extract_program(
            completion,
            entry_point=self.entry_point,
            prompt=self.code_prompt,
            is_cut_off=is_cut_off,
        )


def item_of(record: InstructionRecord, prompt: str) -> EvaluationItem:
    """Return the item that a record is.

    Args:
        record: The row, with its reference answer.
        prompt: Its rendered prompt.
    """
    reference = record.messages[-1].content if record.messages else record.output
    entry_point = record.entry_point or _called_function(record.tests, reference)
    return EvaluationItem(
        id=record.id,
        prompt=prompt,
        question=_question(record),
        reference=reference,
        language=record.language,
        category=record.category,
        subtype=record.subtype,
        entry_point=entry_point,
        tests=record.tests,
        code_prompt=_code_prompt(record, entry_point),
    )


def _question(record: InstructionRecord) -> str:
    if record.messages:
        return next((m.content for m in reversed(record.messages) if m.role == "user"), "")
    return "\n".join(filter(None, (record.instruction, record.input)))


def _code_prompt(record: InstructionRecord, entry_point: str) -> str:
    """Return the instruction where it is the beginning of the function asked for."""
    if not (record.tests and entry_point) or record.input or record.messages:
        return ""
    try:
        tree = ast.parse(record.instruction)
    except (SyntaxError, ValueError):
        return ""
    names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    return record.instruction if entry_point in names else ""


def _called_function(tests: Sequence[Any] | str, reference: str) -> str:
    """Return the function of the reference that assert statements call; empty where none is."""
    statements = [tests] if isinstance(tests, str) else [t for t in tests if isinstance(t, str)]
    defined = _function_names(reference)
    for statement in statements:
        for name in _called_names(statement):
            if name in defined:
                return name
    return ""


def _function_names(source: str) -> set[str]:
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return set()
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}


def _called_names(source: str) -> Iterable[str]:
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            name = node.func.id
            if name not in dir(builtins):
                yield name
