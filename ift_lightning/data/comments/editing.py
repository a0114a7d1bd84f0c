"""Takes comments out of a text so that what is left looks as if they had never been there."""

from __future__ import annotations

import enum
import re
from collections.abc import Sequence
from dataclasses import dataclass

# Stand for removed comments while lines are put in order; texts that hold them are refused.
_GONE = "\x00"
_GONE_EXACTLY = "\x01"
RESERVED = frozenset(_GONE + _GONE_EXACTLY)

_BLANK = " \t\f\v"
_LEADING = re.compile(rf"^([{_BLANK}]*)(?:{_GONE}[{_BLANK}]*)+")
_TRAILING = re.compile(rf"[{_BLANK}]*(?:{_GONE}[{_BLANK}]*)+$")
_INNER = re.compile(rf"([{_BLANK}]*){_GONE}([{_BLANK}{_GONE}]*)")


class Glue(enum.Enum):
    """What may stand between the neighbours of a comment that is gone."""

    TOKENS = "tokens"  # blanks separate tokens and mean nothing else
    CSS = "css"  # a blank between selectors is an operator
    TEXT = "text"  # blanks are content, though one counts as much as several


@dataclass(frozen=True, slots=True)
class Comment:
    """A comment, by offsets in its text."""

    start: int
    end: int
    directive: str = ""  # what it tells a tool; such a comment stays
    acts_as_newline: bool = False  # spans lines in a language that ends statements at newlines
    exactly: bool = False  # stands among blanks that all count, as in HTML's <pre>


class EditRefusedError(ValueError):
    """A comment cannot be taken out without changing how its neighbours read."""


def remove_comments(text: str, comments: Sequence[Comment], glue: Glue = Glue.TOKENS) -> str:
    """Return ``text`` without ``comments``; lines that held nothing else go away.

    The result ends in a newline if and only if ``text`` does, and begins or ends with blank
    lines only if ``text`` does.

    Args:
        text: Holds none of the characters of :data:`RESERVED`.
        comments: In the order of the text, without overlaps; those with a directive are left out
            by the caller.
        glue: What may stand in a comment's place within a line.

    Raises:
        EditRefusedError: A backslash or two words would come to stand where they act on another.
    """
    if not comments:
        return text
    pieces, position = [], 0
    for comment in comments:
        pieces.append(text[position : comment.start])
        position = comment.end
        if comment.exactly:
            pieces.append(_GONE_EXACTLY)
        elif comment.acts_as_newline and "\n" in text[comment.start : comment.end]:
            pieces.append(f"{_GONE}\n{_GONE}")
        else:
            pieces.append(_GONE)
    pieces.append(text[position:])
    lines = "".join(pieces).split("\n")
    kept: list[str] = []
    removed_first = removed_last = False
    for index, line in enumerate(lines):
        if _GONE not in line:
            kept.append(line.replace(_GONE_EXACTLY, ""))
            removed_last = removed_last and not line.strip() and index == len(lines) - 1
            continue
        if line.replace(_GONE, "").strip(_BLANK + "\r"):
            kept.append(_joined(line, glue).replace(_GONE_EXACTLY, ""))
            removed_last = False
        elif kept and _continues(kept[-1]):
            kept.append("")  # a line that is gone would hand the continuation to the next one
            removed_last = False
        else:
            removed_first = removed_first or not any(before.strip() for before in kept)
            removed_last = True
    return _trimmed(text, kept, removed_first, removed_last)


def _trimmed(text: str, kept: list[str], removed_first: bool, removed_last: bool) -> str:
    """Join lines, without blank ones at either end that were not there at that end before."""
    if removed_first and text.split("\n", 1)[0].strip():
        while len(kept) > 1 and not kept[0].strip():
            del kept[0]
    ends_in_newline = text.endswith("\n")
    if removed_last:
        ends_in_blank_line = text.endswith(("\n\n", "\n\r\n"))
        while not ends_in_blank_line and len(kept) > 1 and not kept[-1].strip():
            kept.pop()
        if ends_in_newline and kept[-1]:
            kept.append("")
    result = "\n".join(kept)
    if ends_in_newline and result and not result.endswith("\n"):
        result += "\n"
    return result if ends_in_newline else result.rstrip("\r\n") if removed_last else result


def _continues(line: str) -> bool:
    line = line.rstrip("\r")
    return (len(line) - len(line.rstrip("\\"))) % 2 == 1


def _joined(line: str, glue: Glue) -> str:
    newline = "\r" if line.endswith("\r") else ""
    line = line.removesuffix("\r")
    line = _LEADING.sub(r"\1", line)
    match = _TRAILING.search(line)
    if match:
        line = line[: match.start()]
        if line.endswith("\\"):
            raise EditRefusedError("a backslash before a comment would continue the line")

    def replacement(match: re.Match[str]) -> str:
        before = line[match.start() - 1] if match.start() else ""
        after = line[match.end()] if match.end() < len(line) else ""
        if before == "\\":
            raise EditRefusedError("a backslash stands before a comment")
        return _between(before, after, match[1] != "", match[2].strip(_GONE) != "", glue)

    return _INNER.sub(replacement, line) + newline


def _between(before: str, after: str, blank_before: bool, blank_after: bool, glue: Glue) -> str:
    """Return what is to stand between the characters on either side of a comment."""
    has_blank = blank_before or blank_after
    if glue is not Glue.TOKENS and has_blank:
        return " "
    if glue is Glue.TEXT:
        return ""
    if glue is Glue.CSS:
        if _is_word(before) and _is_word(after):
            raise EditRefusedError("two words would become one, or two selectors")
        return ""
    if after and after in "}":
        return " " if blank_after else ""
    if before and before in "{":
        return " " if blank_before else ""
    if has_blank:
        return "" if before in "([" or after in ")],;" else " "
    return "" if before in "([{,;" or after in ")]},;" else " "


def _is_word(character: str) -> bool:
    return character.isalnum() or character in "_-" or character > "\x7f"
