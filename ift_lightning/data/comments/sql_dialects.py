"""Where SQL's dialects disagree about what a comment is, nothing is removed.

``5--3`` is five to the standard and eight to MySQL; a backslash before a quote ends a string in
one dialect and not in another; ``#`` begins a comment or is an operator.
"""

from __future__ import annotations

from collections.abc import Sequence

from pygments.lexer import Lexer
from pygments.lexers.sql import MySqlLexer, PostgresLexer
from pygments.token import Token

from ift_lightning.data.comments.editing import Comment
from ift_lightning.data.comments.grammars import CommentsUnclearError

_DIALECTS: dict[str, tuple[type[Lexer], ...]] = {
    "sql": (MySqlLexer, PostgresLexer),
    "mysql": (MySqlLexer,),
    "postgresql": (PostgresLexer,),
}


def check_dialects_agree(language: str, code: str, comments: Sequence[Comment]) -> None:
    """Compare the comments that the grammar found with those that each dialect's lexer finds.

    Args:
        language: "sql" for no dialect in particular, "mysql" or "postgresql".
        code: SQL.
        comments: As the grammar found them.

    Raises:
        CommentsUnclearError: They differ.
    """
    expected = [(comment.start, comment.end) for comment in comments]
    for lexer in _DIALECTS[language]:
        if _comment_spans(lexer(), code) != expected:
            raise CommentsUnclearError("dialects of SQL disagree about what is a comment in it")


def _comment_spans(lexer: Lexer, code: str) -> list[tuple[int, int]]:
    spans: list[tuple[int, int]] = []
    for start, kind, text in lexer.get_tokens_unprocessed(code):
        if kind not in Token.Comment or not text:
            continue
        begins = text.startswith(("--", "/*", "#"))
        if spans and spans[-1][1] == start and not begins:
            spans[-1] = (spans[-1][0], start + len(text))
        else:
            spans.append((start, start + len(text)))
    trimmed = ((start, start + len(code[start:end].rstrip("\r\n"))) for start, end in spans)
    return [(start, end) for start, end in trimmed if end > start]
