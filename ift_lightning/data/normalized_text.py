"""When two rows count as the same: text without what people vary when they copy it."""

from __future__ import annotations

import hashlib
import re
import unicodedata

from ift_lightning.types import InstructionRecord

# Punctuation of prose goes; operators stay, so that `a + b` and `a - b` differ.
_PIECES = re.compile(r"\w+|!(?==)|[^\w\s.,;:!?'\"`、。“”‘’…]")


def normalized(text: str) -> str:
    """Return text in one spelling: width, case, blanks and the punctuation of prose are gone.

    Args:
        text: Prose or code, in any script.
    """
    return " ".join(_PIECES.findall(unicodedata.normalize("NFKC", text).casefold()))


def request_text(record: InstructionRecord) -> str:
    """Return what the model is shown of a row: all but the assistant's turns."""
    if record.messages:
        return "\n".join(turn.content for turn in record.messages if turn.role != "assistant")
    return f"{record.instruction}\n{record.input}"


def answer_text(record: InstructionRecord) -> str:
    """Return what the model is to write: the answer, or the assistant's turns."""
    if record.messages:
        return "\n".join(turn.content for turn in record.messages if turn.role == "assistant")
    return record.output


def text_key(text: str) -> bytes:
    """Return 16 bytes that are the same for texts that differ in spelling only."""
    # A text of nothing but punctuation stays as it is: such texts are not all the same.
    data = (normalized(text) or text).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(data, digest_size=16).digest()
