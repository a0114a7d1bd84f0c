"""Removes comments from Python code, and proves that nothing else changed.

Regular expressions break code (``(lo + hi) // 2``, ``"#ff0000"``), so the standard library's
tokenizer finds the comments, and the result has to parse to an equal syntax tree.
"""

from __future__ import annotations

import ast
import dataclasses
import io
import re
import tokenize

from ift_lightning.errors import BadRowError
from ift_lightning.types import InstructionRecord

# Comments that tools read, and that are therefore part of the program.
_KEPT = re.compile(
    r"#!|#\s*-\*-|#.*coding[:=]|#\s*type:|#\s*noqa|#\s*pragma:|#\s*(fmt|pylint|mypy|ruff):"
)


class CommentStrippingError(ValueError):
    """The code cannot be tokenized, or stripping would have changed what it means."""


def strip_python_comments(code: str) -> str:
    """Return ``code`` without its comments; lines that held only a comment go away.

    Comments that tools read (shebang, coding line, ``# type:``, ``# noqa``, pragmas) stay.
    Docstrings are not comments and stay.

    Args:
        code: Python source that parses.

    Raises:
        CommentStrippingError: The code does not parse, or its syntax tree would have changed.
    """
    try:
        before = ast.dump(ast.parse(code))
        tokens = list(tokenize.generate_tokens(io.StringIO(code).readline))
    except (SyntaxError, tokenize.TokenError, ValueError) as error:
        raise CommentStrippingError(f"not valid Python: {error}") from error
    lines = io.StringIO(code).readlines()
    removed: set[int] = set()
    for token in tokens:
        if token.type != tokenize.COMMENT or _KEPT.match(token.string):
            continue
        row, column = token.start
        line = lines[row - 1]
        newline = line[len(line.rstrip("\r\n")) :]
        rest = line[:column].rstrip()
        if rest:
            lines[row - 1] = rest + newline
        else:
            removed.add(row - 1)
    stripped = "".join(line for index, line in enumerate(lines) if index not in removed)
    if not code.endswith("\n"):
        stripped = stripped.rstrip("\n")
    try:
        same = ast.dump(ast.parse(stripped)) == before
    except SyntaxError:
        same = False
    if not same:
        raise CommentStrippingError("removing comments would have changed the syntax tree")
    return stripped


def strip_record_comments(record: InstructionRecord) -> InstructionRecord:
    """Return the record without comments in its answer and in the code of its input.

    Text that is not Python code, such as prose in the input, is left as it is.

    Raises:
        BadRowError: The row's language is not Python: this version can only strip Python.
    """
    if record.language != "python":
        raise BadRowError(
            "data_variant=no_comments can strip Python only in this version, and this row's "
            f"language is {record.language or 'not stated'!r}; rows of other languages cannot be "
            "used with it yet",
            field="language",
        )
    return dataclasses.replace(
        record,
        input=_stripped_or_same(record.input),
        output=_stripped_or_same(record.output),
    )


def _stripped_or_same(text: str) -> str:
    try:
        return strip_python_comments(text)
    except CommentStrippingError:
        return text
