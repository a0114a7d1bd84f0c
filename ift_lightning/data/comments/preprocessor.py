"""Comments within a C preprocessor line's text, which the grammar takes for one token."""

from __future__ import annotations

import re

_TOKEN = re.compile(
    r'"(?:\\.|[^"\\\n])*"'
    r"|'(?:\\.|[^'\\\n])*'"
    r"|//(?:\\\r?\n|[^\n])*"
    r"|/\*.*?\*/"
    r"|[\"']",  # one that is not closed: what follows may be anything
    re.DOTALL,
)


def preprocessor_comments(text: str) -> list[tuple[int, int]]:
    """Return the spans of comments in the text of a directive, such as ``1 // one``.

    Args:
        text: What follows ``#define NAME``, ``#pragma`` and the like.
    """
    spans = []
    for match in _TOKEN.finditer(text):
        if match[0] in ("'", '"'):
            break
        if match[0].startswith("/"):
            spans.append((match.start(), match.start() + len(match[0].rstrip("\r\n"))))
    return spans


def without_comments(text: str) -> str:
    """Return the text of a directive without comments, with one blank for several."""
    for start, end in reversed(preprocessor_comments(text)):
        text = f"{text[:start]} {text[end:]}"
    return " ".join(re.sub(r"\\\r?\n", " ", text).split())
