"""Comments and docstrings of Python, by the standard library's own tokenizer and parser.

Regular expressions break code (``(lo + hi) // 2``, ``"#ff0000"``), so the tokenizer finds the
comments, and the result has to parse to an equal syntax tree.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
import warnings
from collections import Counter

from ift_lightning.data.comments.directives import directive_of
from ift_lightning.data.comments.docstrings import (
    drop_docstrings,
    remove_docstrings,
    uses_docstrings,
)
from ift_lightning.data.comments.editing import Comment, remove_comments
from ift_lightning.data.comments.magics import mask_magics
from ift_lightning.data.comments.outcome import StrippedCode, StripStatus


def strip_python(code: str, *, strip_docstrings: bool = False) -> StrippedCode:
    """Take the comments out of Python code, and prove that nothing else changed.

    Comments that tools read (shebang, coding line, ``# type:``, ``# noqa``, pragmas) stay, as do
    the magics of notebooks. Lines that held only a comment go away.

    Args:
        code: Python source that parses and holds a statement at least.
        strip_docstrings: Take docstrings out too, unless the code reads ``__doc__``.
    """
    tree = parse_python(code)
    if tree is not None:
        return _strip(code, tree, strip_docstrings)
    masked = mask_magics(code)
    if masked is None:
        return StrippedCode(code, StripStatus.NOT_PARSABLE, "not valid Python")
    tree = parse_python(masked.code)
    if tree is None:
        return StrippedCode(code, StripStatus.NOT_PARSABLE, "not valid Python")
    stripped = _strip(masked.code, tree, strip_docstrings)
    counts = {**stripped.counts, "kept:magic": masked.num_magics}
    return StrippedCode(masked.restore(stripped.text), stripped.status, stripped.reason, counts)


def _strip(code: str, tree: ast.Module, strip_docstrings: bool) -> StrippedCode:
    if not tree.body:
        # A text such as "#ff0000" or "# 1. Title".
        return StrippedCode(code, StripStatus.NOT_PARSABLE, "no statement in it")
    counts: Counter[str] = Counter()
    stripped = code
    if strip_docstrings and uses_docstrings(tree):
        counts["kept:docstrings the code reads"] = 1
    elif strip_docstrings:
        stripped, counts["removed:docstring"] = remove_docstrings(code, tree)
    try:
        comments = find_python_comments(stripped)
    except (SyntaxError, tokenize.TokenError) as error:
        return StrippedCode(code, StripStatus.NOT_PARSABLE, f"cannot be tokenized: {error}")
    removed = [comment for comment in comments if not comment.directive]
    counts["removed:comment"] = len(removed)
    counts.update(f"kept:{comment.directive}" for comment in comments if comment.directive)
    counts = +counts
    if not removed and not counts["removed:docstring"]:
        return StrippedCode(code, StripStatus.UNCHANGED, "", counts)
    stripped = remove_comments(stripped, removed)
    if counts["removed:docstring"]:
        drop_docstrings(tree)
    failure = _failure(stripped, tree, [comment.directive for comment in comments])
    if failure:
        return StrippedCode(code, StripStatus.PROOF_FAILED, failure, counts)
    return StrippedCode(stripped, StripStatus.CHANGED, "", counts)


def _failure(stripped: str, expected: ast.Module, directives: list[str]) -> str:
    """Return what is wrong with a result, or "" where it is proven.

    Where no comment without a directive is found in it, stripping it again changes nothing.
    """
    tree = parse_python(stripped)
    if tree is None or not equal_trees(tree, expected):
        return "the syntax tree would have changed"
    try:
        left = find_python_comments(stripped)
    except (SyntaxError, tokenize.TokenError) as error:
        return f"the result cannot be tokenized: {error}"
    if any(not comment.directive for comment in left):
        return "a comment is left"
    if [comment.directive for comment in left] != [name for name in directives if name]:
        return "a comment that tools read would have been lost"
    return ""


def parse_python(code: str) -> ast.Module | None:
    """Return the syntax tree, or None where there is none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about invalid escapes, which are the row's business
            return ast.parse(code)
    # Deep nesting ends in one of the latter two.
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def find_python_comments(code: str) -> list[Comment]:
    """Return the comments of Python code, with what they tell tools.

    Raises:
        SyntaxError: The code cannot be tokenized.
        tokenize.TokenError: Likewise.
    """
    if "#" not in code:
        return []
    starts, position = [], 0
    for line in io.StringIO(code):
        starts.append(position)
        position += len(line)
    num_blank = code[: len(code) - len(code.lstrip())].count("\n")
    comments = []
    for token in tokenize.generate_tokens(io.StringIO(code).readline):
        if token.type != tokenize.COMMENT:
            continue
        row, column = token.start
        is_alone = not token.line[:column].strip()
        name = directive_of("python", token.string, row - 1 - num_blank, is_alone=is_alone)
        start = starts[row - 1] + column
        comments.append(Comment(start, start + len(token.string), name))
    return _with_script_metadata(code, comments)


# https://peps.python.org/pep-0723/
_METADATA = re.compile(r"^# /// [\w-]+$\n(?:^#(?: .*)?$\n)+?^# ///$", re.MULTILINE)


def _with_script_metadata(code: str, comments: list[Comment]) -> list[Comment]:
    """Mark the comments of a ``# /// script`` block, which installers read."""
    if "# ///" not in code:
        return comments
    spans = [match.span() for match in _METADATA.finditer(code)]
    return [
        Comment(comment.start, comment.end, "script metadata")
        if any(start <= comment.start < end for start, end in spans)
        else comment
        for comment in comments
    ]


def equal_trees(first: ast.AST, second: ast.AST) -> bool:
    """Return whether two syntax trees are equal, positions aside.

    What ``ast.dump(first) == ast.dump(second)`` says, without recursion and in half the time.
    """
    pairs: list[tuple[object, object]] = [(first, second)]
    while pairs:
        left, right = pairs.pop()
        kind = left.__class__
        if kind is not right.__class__:
            return False
        if isinstance(left, list) and isinstance(right, list):
            if len(left) != len(right):
                return False
            pairs.extend(zip(left, right, strict=True))
        elif isinstance(left, ast.AST):
            for name in left._fields:
                one, other = getattr(left, name, None), getattr(right, name, None)
                if one is not other:
                    pairs.append((one, other))
        elif isinstance(left, float | complex):
            if repr(left) != repr(right):  # 0.0 equals -0.0
                return False
        elif left != right:
            return False
    return True
