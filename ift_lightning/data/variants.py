"""Changes made to every record before it is rendered. Record ids stay as they are."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

from ift_lightning.data.comments.records import record_stripper
from ift_lightning.errors import BadRowError, UserError, suggest
from ift_lightning.types import InstructionRecord

# Part of a data format, blank at the end included: files made elsewhere have to fit.
REVERSE_INSTRUCTION = (
    "Use the Input below to create an instruction, which could have been used to generate the "
    "input using an LLM. "
)


def standard(record: InstructionRecord) -> InstructionRecord:
    """Return the record as it is."""
    return record


def reverse(record: InstructionRecord) -> InstructionRecord:
    """Turn a row around: from its answer, the model is to find the instruction.

    A row that is turned around already, as ``prepare task=reverse`` writes them, stays as it is.

    Raises:
        BadRowError: The row is a chat, or lacks the instruction or the answer.
    """
    if record.messages:
        raise BadRowError(
            "data_variant=reverse needs rows with an instruction and an answer, not chats",
            field="messages",
        )
    for name in ("instruction", "output"):
        if not getattr(record, name).strip():
            raise BadRowError(f"data_variant=reverse needs a non-empty '{name}'", field=name)
    if record.instruction == REVERSE_INSTRUCTION:
        return record
    return dataclasses.replace(
        record,
        instruction=REVERSE_INSTRUCTION,
        input=record.output,
        output=record.instruction,
        # They belong to the forward direction.
        reasoning={},
        tests=(),
        entry_point="",
    )


VARIANTS: Mapping[str, Callable[[InstructionRecord], InstructionRecord]] = {
    "standard": standard,
    "no_comments": record_stripper(),
    "reverse": reverse,
}


def variant(name: str) -> Callable[[InstructionRecord], InstructionRecord]:
    """Return the record-to-record function of a ``data_variant`` option.

    Raises:
        UserError: There is no such variant.
    """
    try:
        return VARIANTS[name]
    except KeyError:
        raise UserError(f"data_variant={name}: {suggest(name, VARIANTS)}") from None
