"""Fenced code blocks of Markdown: https://spec.commonmark.org/0.31.2/#fenced-code-blocks"""

from __future__ import annotations

import re
from dataclasses import dataclass

# Deeper indents than CommonMark's three blanks are allowed, for blocks within lists.
_OPENING = re.compile(r"^([ \t>]*)(`{3,}(?=[^`]*$)|~{3,})[ \t]*(.*?)[ \t]*$")
_TAG = re.compile(r"^\{?\s*\.?([\w+#.-]+)")


@dataclass(frozen=True, slots=True)
class Passage:
    """A stretch of a text: prose, or what stands within a fence.

    ``prefix`` is what every line of the block begins with, an indent or marks of a quotation.
    """

    text: str
    is_code: bool
    tag: str = ""
    prefix: str = ""

    def without_prefix(self) -> str | None:
        """Return the code alone; None where a line lacks the prefix."""
        if not self.prefix:
            return self.text
        lines = []
        for line in self.text.split("\n"):
            if line.startswith(self.prefix):
                lines.append(line[len(self.prefix) :])
            elif not line.strip():
                lines.append(line.strip(" \t"))
            else:
                return None
        return "\n".join(lines)

    def with_prefix(self, code: str) -> str:
        """Return code with the prefix before every line that is not blank."""
        if not self.prefix:
            return code
        return "\n".join(self.prefix + line if line.strip() else line for line in code.split("\n"))


def split_fences(text: str) -> list[Passage]:
    """Cut a text into prose and blocks; joined, the passages are the text again.

    The lines of the fences belong to the prose. A block that is never closed ends with the text.

    Args:
        text: Markdown, or any text: without a fence it is one passage of prose.
    """
    passages: list[Passage] = []
    current: list[str] = []
    fence = tag = prefix = ""
    for line in text.splitlines(keepends=True):
        if not fence:
            current.append(line)
            match = _OPENING.match(line.rstrip("\r\n"))
            if match:
                passages.append(Passage("".join(current), is_code=False))
                current = []
                prefix, fence, info = match.groups()
                found = _TAG.match(info)
                tag = found[1] if found else ""
            continue
        bare = line.strip().lstrip("> \t")
        if bare.startswith(fence) and not bare.strip(fence[0]):
            passages.append(Passage("".join(current), True, tag, prefix))
            current, fence = [line], ""
        else:
            current.append(line)
    passages.append(Passage("".join(current), bool(fence), tag if fence else "", prefix))
    return passages
