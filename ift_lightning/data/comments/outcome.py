"""What is asked of the comment stripper, and what it answers."""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from ift_lightning.types import InstructionRecord

STRIP_VERSION = 2
"""Rises whenever the same row may come out otherwise; part of the key of cached tokens."""


class StripStatus(enum.StrEnum):
    """How it went, for a piece of code or for a row."""

    CHANGED = "changed"
    UNCHANGED = "unchanged"  # there is nothing to remove
    NOT_PARSABLE = "not_parsable"  # left as it was: comments cannot be told from code
    PROOF_FAILED = "proof_failed"  # left as it was: something besides comments would have changed
    UNKNOWN_LANGUAGE = "unknown_language"  # left as it was: not stated, not guessed, or no parser


@dataclass(frozen=True, slots=True)
class StripOptions:
    """What to remove, and from what.

    Args:
        strip_docstrings: Remove Python's docstrings too; a body left empty gets a ``pass``.
        guess_language: Where neither the row nor the fence names a language, look for signs of
            one. Otherwise such code is left as it was.
    """

    strip_docstrings: bool = False
    guess_language: bool = True


@dataclass(frozen=True, slots=True)
class StrippedCode:
    """One piece of code after stripping.

    ``counts`` says what was done, by kind: "removed:comment", "removed:docstring", and
    "kept:NAME" for comments that tools read.
    """

    text: str
    status: StripStatus
    reason: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StrippedPiece:
    """What became of one piece of a row."""

    where: str  # "output", "input", "messages[1]", "output, fenced block 2"
    language: str  # "" where it is not known
    language_source: str  # "row", "fence", "guess: ..." or ""
    status: StripStatus
    reason: str
    counts: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class StripOutcome:
    """A row after stripping, and an account of it."""

    record: InstructionRecord
    status: StripStatus
    reason: str
    pieces: tuple[StrippedPiece, ...]

    @property
    def counts(self) -> Counter[str]:
        """Return what was done, by kind, over all pieces.

        Besides the kinds of :class:`StrippedCode`: "piece:STATUS", "language:NAME (SOURCE)", and
        "row:asks_about_comments" where a changed row's instruction speaks of comments.
        """
        total: Counter[str] = Counter()
        for piece in self.pieces:
            total[f"piece:{piece.status}"] += 1
            if piece.language:
                source = piece.language_source.partition(":")[0]
                total[f"language:{piece.language} ({source})"] += 1
            if piece.status is StripStatus.CHANGED or piece.status is StripStatus.UNCHANGED:
                total.update(piece.counts)
        if self.status is StripStatus.CHANGED and asks_about_comments(self.record):
            total["row:asks_about_comments"] += 1
        return total


def asks_about_comments(record: InstructionRecord) -> bool:
    """Return whether the row's request speaks of comments, so that stripping may defeat it."""
    asked = [record.instruction]
    asked += [turn.content for turn in record.messages if turn.role != "assistant"]
    return any("comment" in text.lower() or "注释" in text for text in asked)
