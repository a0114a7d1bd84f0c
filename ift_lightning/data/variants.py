"""Changes made to every record before it is rendered. Record ids stay as they are."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping

from ift_lightning.data.comments import STRIP_VERSION, strip_record
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


def no_comments(record: InstructionRecord, counts: Counter[str]) -> InstructionRecord:
    """Return the record without comments in its code, and count what was done.

    A row that cannot be stripped, for example since its language is not known, comes back as it
    was, and is counted as "row:unknown_language" or what else the reason is.
    """
    outcome = strip_record(record)
    counts[f"row:{outcome.status}"] += 1
    counts.update(outcome.counts)
    return outcome.record


class Variant:
    """A record-to-record function that keeps an account of what it did.

    Args:
        name: As in ``data_variant=``.
        version: Rises when the same record may come out otherwise.
        function: Takes a record and the account.

    Attributes:
        key: Identifies the function in the key of cached tokens.
        counts: What was done so far, by kind; empty for variants with nothing to tell.
    """

    def __init__(
        self,
        name: str,
        version: int,
        function: Callable[[InstructionRecord, Counter[str]], InstructionRecord],
    ) -> None:
        self.key = f"{name}-{version}"
        self.counts: Counter[str] = Counter()
        self._function = function

    def __call__(self, record: InstructionRecord) -> InstructionRecord:
        return self._function(record, self.counts)


VARIANTS: Mapping[str, Callable[[], Variant]] = {
    "standard": lambda: Variant("standard", 1, lambda record, _: standard(record)),
    "no_comments": lambda: Variant("no_comments", STRIP_VERSION, no_comments),
    "reverse": lambda: Variant("reverse", 1, lambda record, _: reverse(record)),
}


def variant(name: str) -> Variant:
    """Return the record-to-record function of a ``data_variant`` option, its account empty.

    Raises:
        UserError: There is no such variant.
    """
    try:
        return VARIANTS[name]()
    except KeyError:
        raise UserError(f"data_variant={name}: {suggest(name, VARIANTS)}") from None
