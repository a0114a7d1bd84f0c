"""Parsers of languages other than Python, and the comments that they find.

A text is handled as its UTF-8 bytes, one character a byte, so that the parser's offsets are
offsets into it. See :func:`as_bytes_text`.
"""

from __future__ import annotations

import functools
import importlib
import re
from collections.abc import Iterator
from dataclasses import dataclass

from tree_sitter import Language, Node, Parser, Tree

from ift_lightning.data.comments.directives import directive_of
from ift_lightning.data.comments.editing import Comment
from ift_lightning.data.comments.go_comments import go_directive
from ift_lightning.data.comments.preprocessor import preprocessor_comments

# Language -> (module of the wheel, function that returns the grammar)
_GRAMMARS = {
    "java": ("tree_sitter_java", "language"),
    "javascript": ("tree_sitter_javascript", "language"),
    "typescript": ("tree_sitter_typescript", "language_typescript"),
    "tsx": ("tree_sitter_typescript", "language_tsx"),
    "c": ("tree_sitter_c", "language"),
    "cpp": ("tree_sitter_cpp", "language"),
    "csharp": ("tree_sitter_c_sharp", "language"),
    "go": ("tree_sitter_go", "language"),
    "php": ("tree_sitter_php", "language_php"),
    "php without tag": ("tree_sitter_php", "language_php_only"),
    "ruby": ("tree_sitter_ruby", "language"),
    "rust": ("tree_sitter_rust", "language"),
    "sql": ("tree_sitter_sql", "language"),
    "html": ("tree_sitter_html", "language"),
    "css": ("tree_sitter_css", "language"),
    "shell": ("tree_sitter_bash", "language"),
}
COMMENT_TYPES = frozenset(
    {"comment", "line_comment", "block_comment", "html_comment", "js_comment", "marginalia"}
)
# A block comment that spans lines ends a statement here, as a newline would.
_NEWLINES_END_STATEMENTS = frozenset({"javascript", "typescript", "tsx", "go"})
_JSX_PARENTS = frozenset({"jsx_element", "jsx_fragment"})
# HTML elements that hold text only: what looks like a comment in them is shown.
_TEXT_ELEMENTS = frozenset(
    {"textarea", "title", "xmp", "plaintext", "iframe", "noembed", "noframes", "noscript"}
)
_EXACT_ELEMENTS = frozenset({"pre", "listing"})


class CommentsUnclearError(ValueError):
    """What is a comment cannot be told with certainty."""


@functools.cache
def _parser(grammar: str) -> Parser:
    module, function = _GRAMMARS[grammar]
    return Parser(Language(getattr(importlib.import_module(module), function)()))


def grammar_name(language: str, code: str) -> str:
    """Return which grammar reads code of a language."""
    if language in ("mysql", "postgresql"):
        return "sql"
    if language == "php" and "<?php" not in code and "<?=" not in code:
        return "php without tag"
    return language


@dataclass(frozen=True, slots=True)
class ParsedCode:
    """A syntax tree, and the text that its offsets refer to."""

    tree: Tree
    text: str


# The grammars of C and C++ take blanks at the end of such a line for a syntax error.
_BLANKS_AT_END = re.compile(
    r"^([ \t]*#[ \t]*(?:include\b|define(?=[ \t]+\w+[ \t]+\r?$)))"
    r"((?:(?!//|/\*|\\$)[^\n])*?)([ \t]+)(?=\r?$)",
    re.MULTILINE,
)


def parse(grammar: str, code: str) -> ParsedCode | None:
    """Return the syntax tree of code, or None if it has an error.

    Args:
        grammar: See :func:`grammar_name`.
        code: Text made by :func:`as_bytes_text`.
    """
    if grammar in ("c", "cpp"):
        code = _BLANKS_AT_END.sub(r"\1\3\2", code)  # which moves nothing beyond the line
    tree = _parser(grammar).parse(code.encode("latin-1"))
    return None if tree.root_node.has_error else ParsedCode(tree, code)


def as_bytes_text(text: str) -> str:
    """Return a string with one character for each byte of ``text`` in UTF-8.

    Raises:
        UnicodeEncodeError: Half of a surrogate pair is in it.
    """
    return text.encode().decode("latin-1")


def from_bytes_text(text: str) -> str:
    """Undo :func:`as_bytes_text`."""
    return text.encode("latin-1").decode()


def find_comments(language: str, parsed: ParsedCode) -> list[Comment]:
    """Return the comments in the order of the text, with what they tell tools.

    Args:
        language: A name of ``LANGUAGES`` other than Python.
        parsed: A whole text.

    Raises:
        CommentsUnclearError: It cannot be told what is a comment.
    """
    code = parsed.text
    comments: list[Comment] = []
    num_blank = code[: len(code) - len(code.lstrip())].count("\n")
    for node in _walk(parsed.tree.root_node):
        if node.type in ("preproc_arg", "jsx_expression"):
            comments += _special_comments(language, code, node)
            continue
        if node.type not in COMMENT_TYPES:
            continue
        start = node.start_byte
        text = code[start : node.end_byte].rstrip("\r\n")
        if not text or (language == "html" and _inside(node, _TEXT_ELEMENTS)):
            continue
        _check(language, code, start, text, node)
        line = node.start_point[0] - num_blank
        line_start = code.rfind("\n", 0, start) + 1
        is_alone = not code[line_start:start].strip()
        name = directive_of(language, text, line, is_alone=is_alone)
        if language == "go":
            name = name or go_directive(node)
        comments.append(
            Comment(
                start,
                start + len(text),
                name,
                acts_as_newline=language in _NEWLINES_END_STATEMENTS,
                exactly=language == "html" and _inside(node, _EXACT_ELEMENTS),
            )
        )
    return _outermost(comments)


def _walk(root: Node) -> Iterator[Node]:
    cursor = root.walk()
    while True:
        node = cursor.node
        assert node is not None
        yield node
        if node.type not in COMMENT_TYPES and cursor.goto_first_child():
            continue
        while not cursor.goto_next_sibling():
            if not cursor.goto_parent():
                return


def _outermost(comments: list[Comment]) -> list[Comment]:
    """Sort, without comments that lie within another one."""
    result: list[Comment] = []
    for comment in sorted(comments, key=lambda item: (item.start, -item.end)):
        if not result or comment.start >= result[-1].end:
            result.append(comment)
    return result


def _special_comments(language: str, code: str, node: Node) -> list[Comment]:
    """Return comments that the grammar hides, or that are not to go alone."""
    if node.type == "preproc_arg":
        if language not in ("c", "cpp"):
            return []  # the rest of a C# directive's line is text
        text = code[node.start_byte : node.end_byte]
        spans = preprocessor_comments(text)
        return [
            Comment(
                node.start_byte + start,
                node.start_byte + end,
                directive_of(language, text[start:end], 1, is_alone=False),
            )
            for start, end in spans
        ]
    if is_empty_jsx(node) and not _joins_jsx_text(node):
        start = code.index("{", node.start_byte)  # the node begins with the blanks before it
        line_start = code.rfind("\n", 0, start) + 1
        line_end = code.find("\n", node.end_byte)
        rest = code[node.end_byte : line_end if line_end >= 0 else len(code)]
        texts = [code[child.start_byte : child.end_byte] for child in node.named_children]
        if texts and not code[line_start:start].strip() and not rest.strip():
            names = (directive_of(language, text, 1, is_alone=True) for text in texts)
            return [Comment(start, node.end_byte, next(filter(None, names), ""))]
    return []


def is_empty_jsx(node: Node) -> bool:
    """Return whether a node is ``{/* comment */}`` or ``{}`` among the children of an element."""
    return (
        node.type == "jsx_expression"
        and node.parent is not None
        and node.parent.type in _JSX_PARENTS
        and all(child.type in COMMENT_TYPES for child in node.named_children)
    )


def _joins_jsx_text(node: Node) -> bool:
    """Return whether text would run together, which changes how its blanks count."""
    neighbours = (node.prev_sibling, node.next_sibling)
    return all(
        other is not None and other.type == "jsx_text" and other.text and other.text.strip()
        for other in neighbours
    )


def _inside(node: Node, names: frozenset[str]) -> bool:
    parent = node.parent
    while parent is not None:
        if parent.type in ("element", "script_element", "style_element") and parent.children:
            tags = [child.text for child in parent.children[0].named_children[:1]]
            if any(tag is not None and tag.decode().lower() in names for tag in tags):
                return True
        parent = parent.parent
    return False


# Java reads these before it looks for comments; they end one.
_JAVA_ESCAPE = re.compile(r"\\u+00(?:0[aAdD]|2[aAfF])")
# In these bytes: U+2028, U+2029 and, for C#, U+0085.
_LINE_SEPARATORS = ("\xe2\x80\xa8", "\xe2\x80\xa9")
_NEXT_LINE = "\xc2\x85"


def _check(language: str, code: str, start: int, text: str, node: Node) -> None:
    """Refuse what a compiler would read otherwise than the grammar does."""
    if language == "java" and _JAVA_ESCAPE.search(text):
        raise CommentsUnclearError("a Unicode escape may end a comment")
    ends_lines = language in ("javascript", "typescript", "tsx", "csharp")
    if ends_lines and not text.startswith("/*"):
        separators = _LINE_SEPARATORS + ((_NEXT_LINE,) if language == "csharp" else ())
        if any(separator in text for separator in separators):
            raise CommentsUnclearError("a Unicode line separator ends a comment")
    if language in ("c", "cpp") and "??/" in text:
        raise CommentsUnclearError("a trigraph may continue a comment")
    parent = node.parent
    if parent is not None and parent.type in _JSX_PARENTS:
        raise CommentsUnclearError("text of a JSX element looks like a comment")
    if language == "css" and node.type == "js_comment":
        raise CommentsUnclearError("// is no comment in CSS")
    if language == "shell":
        before = code[max(start - 1, 0) : start]
        # A comment begins a word: https://pubs.opengroup.org/onlinepubs/9699919799/ 2.3, rule 9
        is_escaped = before in (" ", "\t") and code[max(start - 2, 0) : start - 1] == "\\"
        if is_escaped or (before and before not in " \t\r\n;&|()`"):
            raise CommentsUnclearError("# does not begin a word")
