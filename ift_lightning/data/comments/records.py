"""Stripping a row: which of its texts are code, in which language, and what became of them."""

from __future__ import annotations

import dataclasses

from ift_lightning.data.comments.fences import Passage, split_fences
from ift_lightning.data.comments.guessing import guess_language, is_surely_python, parses
from ift_lightning.data.comments.languages import canonical_language
from ift_lightning.data.comments.outcome import (
    StripOptions,
    StripOutcome,
    StrippedCode,
    StrippedPiece,
    StripStatus,
)
from ift_lightning.data.comments.stripping import may_have_comments, strip_code
from ift_lightning.types import InstructionRecord, Message

# A row's status is the first of these that one of its pieces has.
_PRECEDENCE = (
    StripStatus.PROOF_FAILED,
    StripStatus.CHANGED,
    StripStatus.NOT_PARSABLE,
    StripStatus.UNKNOWN_LANGUAGE,
)

# Prose with a fence is no program in these. To JavaScript it is one, of a label and a template.
_BREAK_ON_FENCES = frozenset({"python", "java", "c", "cpp", "csharp", "rust"})


def strip_record(record: InstructionRecord, options: StripOptions | None = None) -> StripOutcome:
    """Take the comments out of a row's code; its id and everything else stay.

    The answer, the input and the turns of a chat are stripped where they are code as a whole, or
    block by block where they have fenced blocks. Of an instruction and of a system prompt only
    fenced blocks are. Prose, reasoning, tests and the entry point are left alone.

    Where the proof fails for any piece, the whole row is left as it was. A piece that does not
    parse, or whose language is not known, is left as it was, and the others are stripped.

    Args:
        record: A row in any form.
        options: What to remove; None for the defaults.
    """
    stripper = _RecordStripper(record, options or StripOptions())
    stripped = stripper.run()
    pieces = tuple(stripper.pieces)
    statuses = {piece.status for piece in pieces}
    status = next((one for one in _PRECEDENCE if one in statuses), StripStatus.UNCHANGED)
    reasons = [
        f"{piece.where}: {piece.reason}"
        for piece in pieces
        if piece.reason and (piece.status is status or status is StripStatus.CHANGED)
    ]
    if status is not StripStatus.CHANGED:
        stripped = record
    return StripOutcome(stripped, status, "; ".join(reasons), pieces)


class _RecordStripper:
    """Goes through the texts of one row, and keeps the account."""

    def __init__(self, record: InstructionRecord, options: StripOptions) -> None:
        self.record = record
        self.options = options
        self.pieces: list[StrippedPiece] = []
        # The request goes with it where a guess is needed.
        asked = [record.instruction]
        asked += [turn.content for turn in record.messages if turn.role == "user"]
        self.request = "\n".join(part.split("```")[0] for part in asked)

    def run(self) -> InstructionRecord:
        record = self.record
        return dataclasses.replace(
            record,
            instruction=self._text(record.instruction, "instruction", is_prose=True),
            input=self._text(record.input, "input"),
            output=self._text(record.output, "output", is_answer=True),
            messages=tuple(
                Message(
                    turn.role,
                    self._text(
                        turn.content,
                        f"messages[{index}]",
                        is_prose=turn.role == "system",
                        is_answer=turn.role == "assistant",
                    ),
                )
                for index, turn in enumerate(record.messages)
            ),
        )

    def _text(
        self, text: str, where: str, *, is_prose: bool = False, is_answer: bool = False
    ) -> str:
        if "```" in text or "~~~" in text:
            passages = split_fences(text)
            if any(passage.is_code for passage in passages) and not self._is_program(text):
                return self._blocks(passages, where)
        if is_prose or not text:
            return text
        return self._whole(text, where, is_answer)

    def _is_program(self, text: str) -> bool:
        """Return whether a text with fences is code all the same, for example in a docstring."""
        language = canonical_language(self.record.language)
        if language in _BREAK_ON_FENCES:
            return parses(language, text)
        return not self.record.language and is_surely_python(text)

    def _blocks(self, passages: list[Passage], where: str) -> str:
        parts, number = [], 0
        for passage in passages:
            if not passage.is_code:
                parts.append(passage.text)
                continue
            number += 1
            parts.append(self._block(passage, f"{where}, fenced block {number}"))
        return "".join(parts)

    def _block(self, passage: Passage, where: str) -> str:
        code = passage.without_prefix()
        if code is None:
            self._note(where, "", "", _left(passage.text, "lines are not indented as the fence"))
            return passage.text
        if passage.tag:
            language = canonical_language(passage.tag)
            if language is None:
                unknown = StripStatus.UNKNOWN_LANGUAGE
                reason = f"the fence says {passage.tag!r}"
                if may_have_comments(code):
                    self._note(where, "", "fence", StrippedCode(code, unknown, reason))
                return passage.text
            stripped = self._strip(language, code)
            self._note(where, language, "fence", stripped)
        else:
            stripped = self._untagged(code, where)
        return passage.with_prefix(stripped.text) if stripped.text != code else passage.text

    def _whole(self, text: str, where: str, is_answer: bool) -> str:
        # A final newline is the text's, not the code's: some parsers need it.
        return self._untagged(text, where, may_differ=not is_answer).text

    def _untagged(self, code: str, where: str, *, may_differ: bool = True) -> StrippedCode:
        """Strip code by the row's language, or by a guess.

        Args:
            code: A block without a tag, or a whole text.
            where: For the account.
            may_differ: The code may be in another language than the row's answer, as the code
                that is to be translated is.
        """
        name = self.record.language
        language = canonical_language(name)
        if language is not None:
            stripped = self._strip(language, code)
            if stripped.status is not StripStatus.NOT_PARSABLE or not may_differ:
                self._note(where, language, "row", stripped)
                return stripped
            guess = guess_language(code) if self.options.guess_language else None
            if guess is None or guess.language == language:
                self._note(where, language, "row", stripped)
                return stripped
        elif not may_have_comments(code, strip_docstrings=self.options.strip_docstrings):
            unchanged = StrippedCode(code, StripStatus.UNCHANGED)
            self._note(where, "", "", unchanged)
            return unchanged
        else:
            can_guess = self.options.guess_language and not name
            guess = guess_language(code, self.request) if can_guess else None
        if guess is None:
            reason = f"the row says {name!r}" if name else "not stated, and no safe guess"
            unknown = StrippedCode(code, StripStatus.UNKNOWN_LANGUAGE, reason)
            self._note(where, "", "", unknown)
            return unknown
        stripped = self._strip(guess.language, code)
        self._note(where, guess.language, f"guess: {guess.evidence}", stripped)
        return stripped

    def _strip(self, language: str, code: str) -> StrippedCode:
        return strip_code(language, code, strip_docstrings=self.options.strip_docstrings)

    def _note(self, where: str, language: str, source: str, stripped: StrippedCode) -> None:
        self.pieces.append(
            StrippedPiece(
                where, language, source, stripped.status, stripped.reason, stripped.counts
            )
        )


def _left(text: str, reason: str) -> StrippedCode:
    return StrippedCode(text, StripStatus.NOT_PARSABLE, reason)
