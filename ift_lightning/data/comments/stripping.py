"""Stripping one piece of code of a known language."""

from __future__ import annotations

import dataclasses
import re

from ift_lightning.data.comments.editing import RESERVED
from ift_lightning.data.comments.grammar_code import strip_with_grammar
from ift_lightning.data.comments.html_code import strip_html
from ift_lightning.data.comments.languages import LANGUAGES
from ift_lightning.data.comments.outcome import StrippedCode, StripStatus
from ift_lightning.data.comments.python_code import strip_python

_BYTE_ORDER_MARK = "\ufeff"
_SLASHES = ("//", "/*")
_MARKERS: dict[str, tuple[str, ...]] = {
    "python": ("#",),
    "ruby": ("#", "=begin"),
    "shell": ("#",),
    "php": ("//", "/*", "#"),
    "sql": ("--", "/*", "#"),
    "mysql": ("--", "/*", "#"),
    "postgresql": ("--", "/*"),
    "html": ("<!--", *_SLASHES),
    "css": ("/*",),
    "javascript": (*_SLASHES, "<!--", "-->"),
}
# Of any language; addresses, includes and rules of tables are none.
_ANY_MARKER = re.compile(r"#(?!\s*include\b)|(?<!http:)(?<!https:)//|/\*|(?<![|-])--|=begin")
_LONE_RETURN = re.compile(r"\r(?!\n)")

# Grammars of these languages take nearly any sentence for a program.
_READS_PROSE = frozenset({"shell", "ruby", "sql", "mysql", "postgresql", "css"})
_SENTENCE = re.compile(r"^\s*[A-Z][a-z']*(?:,? [A-Za-z'`-]+,?){2,}[^=;{}()<>$|]*$", re.MULTILINE)


def may_have_comments(code: str, language: str = "", *, strip_docstrings: bool = False) -> bool:
    """Return False where a look is enough to see that there is nothing to remove.

    Args:
        code: Code, or any text.
        language: A name of ``LANGUAGES``, or "" where it is not known.
        strip_docstrings: Docstrings count too.
    """
    if strip_docstrings and language in ("python", "") and ('"' in code or "'" in code):
        return True
    if not language:
        return _ANY_MARKER.search(code) is not None
    return any(marker in code for marker in _MARKERS.get(language, _SLASHES))


def strip_code(language: str, code: str, *, strip_docstrings: bool = False) -> StrippedCode:
    """Take the comments out of code, and prove that nothing else changed.

    Python has to come out with an equal syntax tree, other languages with the same non-comment
    tokens in the same structure and no new syntax error. No comment may be left, and stripping
    the result again would change nothing. Code that fails a proof or does not parse comes back
    as it was, with the reason.

    Args:
        language: A name of ``LANGUAGES``.
        code: A program or a part of one, in that language alone.
        strip_docstrings: Remove Python's docstrings too.

    Raises:
        ValueError: There is no such language.
    """
    if language not in LANGUAGES:
        raise ValueError(f"no comments are known of the language {language!r}")
    if not may_have_comments(code, language, strip_docstrings=strip_docstrings):
        return StrippedCode(code, StripStatus.UNCHANGED)
    if code.startswith(_BYTE_ORDER_MARK):
        inner = strip_code(language, code[1:], strip_docstrings=strip_docstrings)
        return dataclasses.replace(inner, text=_BYTE_ORDER_MARK + inner.text)
    reason = refusal(language, code)
    if reason:
        return StrippedCode(code, StripStatus.NOT_PARSABLE, reason)
    if language == "python":
        return strip_python(code, strip_docstrings=strip_docstrings)
    if language == "html":
        return strip_html(code, strip_code)
    return strip_with_grammar(language, code)


def refusal(language: str, code: str) -> str:
    """Return why a text is not handed to the language's parser, or ""."""
    if not RESERVED.isdisjoint(code):
        return "control characters in it"
    if _LONE_RETURN.search(code):
        return "a carriage return alone, which only some parsers take for the end of a line"
    try:
        code.encode()
    except UnicodeEncodeError:
        return "half of a surrogate pair in it"
    if language in _READS_PROSE:
        lines = [line for line in code.splitlines() if not line.lstrip().startswith(("#", "--"))]
        if any(_SENTENCE.match(line) for line in lines):
            return f"reads like prose, not like {language}"
    return ""
