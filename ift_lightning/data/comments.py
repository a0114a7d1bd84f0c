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
import warnings

from ift_lightning.errors import BadRowError
from ift_lightning.types import InstructionRecord, Message

# Comments that tools read, and that are therefore part of the program.
_DIRECTIVE = re.compile(
    r"#\s*(type:|noqa\b|pragma:|nosec\b|((fmt|pylint|mypy|ruff|isort|pyright|flake8|yapf):))",
    re.IGNORECASE,
)
# These count on the first lines only: https://peps.python.org/pep-0263/
_CODING = re.compile(r"#.*?coding[:=][ \t]*[-\w.]+")


class CommentStrippingError(ValueError):
    """The code cannot be tokenized, or stripping would have changed what it means."""


def strip_python_comments(code: str) -> str:
    """Return ``code`` without its comments; lines that held only a comment go away.

    Comments that tools read (shebang, coding line, ``# type:``, ``# noqa``, pragmas) stay.
    Docstrings are not comments and stay.

    Args:
        code: Python source that parses and holds a statement at least.

    Raises:
        CommentStrippingError: The code does not parse, has no statement (a text such as
            "#ff0000" or "# 1. Title"), or its syntax tree would have changed.
    """
    before = _syntax_tree(code)
    if before is None:
        raise CommentStrippingError("not valid Python, or without any statement")
    try:
        tokens = list(tokenize.generate_tokens(io.StringIO(code).readline))
    except (SyntaxError, tokenize.TokenError) as error:
        raise CommentStrippingError(f"cannot be tokenized: {error}") from error
    lines = io.StringIO(code).readlines()
    removed: set[int] = set()
    for token in tokens:
        if token.type != tokenize.COMMENT or _is_kept(token):
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
    if len(lines) - 1 in removed and not code.endswith("\n"):
        # What is the last line now ends as the last one did: in no newline.
        stripped = stripped.rstrip("\r\n")
    if _syntax_tree(stripped) != before:
        raise CommentStrippingError("removing comments would have changed the syntax tree")
    return stripped


def _syntax_tree(code: str) -> str | None:
    """Return the syntax tree as text, or None where there is none or an empty one."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about invalid escapes, which are the row's business
            tree = ast.parse(code)
        return ast.dump(tree) if tree.body else None
    # Deep nesting ends in one of the latter two.
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _is_kept(token: tokenize.TokenInfo) -> bool:
    row, column = token.start
    if row == 1 and column == 0 and token.string.startswith("#!"):
        return True
    if row <= 2 and not token.line[:column].strip() and _CODING.match(token.string):
        return True
    return bool(_DIRECTIVE.match(token.string))


def strip_record_comments(record: InstructionRecord) -> InstructionRecord:
    """Return the record without comments in its answers and in the code of its input.

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
        messages=tuple(
            Message(turn.role, _stripped_or_same(turn.content)) for turn in record.messages
        ),
    )


def _stripped_or_same(text: str) -> str:
    try:
        return strip_python_comments(text)
    except CommentStrippingError:
        return text
