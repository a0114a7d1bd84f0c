"""Comments of languages that a grammar reads: found, taken out, proven."""

from __future__ import annotations

from collections import Counter

from ift_lightning.data.comments.editing import EditRefusedError, Glue, remove_comments
from ift_lightning.data.comments.grammars import (
    COMMENT_TYPES,
    CommentsUnclearError,
    as_bytes_text,
    find_comments,
    from_bytes_text,
    grammar_name,
    parse,
)
from ift_lightning.data.comments.outcome import StrippedCode, StripStatus
from ift_lightning.data.comments.sql_dialects import check_dialects_agree
from ift_lightning.data.comments.syntax_shape import program_shape

SQL = frozenset({"sql", "mysql", "postgresql"})


def strip_with_grammar(language: str, text: str) -> StrippedCode:
    """Take the comments out of code, and prove that nothing else changed.

    The result has to have the same tokens in the same structure and no syntax error, and no
    comment may be left in it but those that tools read.

    Args:
        language: A name of ``LANGUAGES`` other than Python and HTML.
        text: Code without syntax errors, with a token at least that is no comment.
    """
    code = as_bytes_text(text)
    grammar = grammar_name(language, code)
    parsed = parse(grammar, code)
    if parsed is None and language == "typescript":
        grammar = "tsx"
        parsed = parse(grammar, code)
    if parsed is None:
        return StrippedCode(text, StripStatus.NOT_PARSABLE, f"not valid {language}")
    if all(child.type in COMMENT_TYPES for child in parsed.tree.root_node.children):
        return StrippedCode(text, StripStatus.NOT_PARSABLE, "no statement in it")
    try:
        comments = find_comments(language, parsed)
        if language in SQL:
            check_dialects_agree(language, code, comments)
    except CommentsUnclearError as error:
        return StrippedCode(text, StripStatus.NOT_PARSABLE, str(error))
    counts = Counter(f"kept:{comment.directive}" for comment in comments if comment.directive)
    removed = [comment for comment in comments if not comment.directive]
    if not removed:
        return StrippedCode(text, StripStatus.UNCHANGED, "", counts)
    counts["removed:comment"] = len(removed)
    try:
        stripped = remove_comments(code, removed, Glue.CSS if language == "css" else Glue.TOKENS)
    except EditRefusedError as error:
        return StrippedCode(text, StripStatus.PROOF_FAILED, str(error), counts)
    after = parse(grammar, stripped)
    if after is None:
        failure = "there would have been a new syntax error"
    elif program_shape(after) != program_shape(parsed):
        failure = "other tokens than comments would have changed"
    else:
        try:
            left = find_comments(language, after)
            if language in SQL:
                check_dialects_agree(language, stripped, left)
        except CommentsUnclearError as error:
            return StrippedCode(text, StripStatus.PROOF_FAILED, str(error), counts)
        failure = ""
        if any(not comment.directive for comment in left):
            failure = "a comment is left"
        elif [comment.directive for comment in left] != [
            comment.directive for comment in comments if comment.directive
        ]:
            failure = "a comment that tools read would have been lost"
    if failure:
        return StrippedCode(text, StripStatus.PROOF_FAILED, failure, counts)
    return StrippedCode(from_bytes_text(stripped), StripStatus.CHANGED, "", counts)
