"""What a program is apart from its comments: the evidence that nothing else was touched."""

from __future__ import annotations

import re

from ift_lightning.data.comments.grammars import COMMENT_TYPES, ParsedCode, is_empty_jsx
from ift_lightning.data.comments.preprocessor import without_comments

ShapeItem = tuple[str, str]


def program_shape(parsed: ParsedCode) -> list[ShapeItem]:
    """Return a program's tokens with the structure around them, without comments.

    Two programs with the same shape have equal non-comment token streams, and the parser nests
    those tokens alike. Blanks between tokens are left out; text of literals that the grammar
    gives no token of its own is kept.

    Args:
        parsed: A whole program without syntax errors.
    """
    code = parsed.text
    shape: list[ShapeItem] = []
    position = 0
    cursor = parsed.tree.root_node.walk()
    while True:
        node = cursor.node
        assert node is not None
        descend = False
        if node.type in COMMENT_TYPES:
            _add_gap(shape, code[position : node.start_byte])
            position = max(position, node.end_byte)
        elif is_empty_jsx(node):
            _add_gap(shape, code[position : node.start_byte])
            shape.append(("jsx_empty", ""))
            position = node.end_byte
        elif node.child_count:
            shape.append(("begin", node.type))
            descend = cursor.goto_first_child()
        else:
            _add_gap(shape, code[position : node.start_byte])
            _add_token(shape, node.type, code[node.start_byte : node.end_byte])
            position = max(position, node.end_byte)
        if descend:
            continue
        while not cursor.goto_next_sibling():
            if not cursor.goto_parent():
                _add_gap(shape, code[position:])
                return _tidied(shape)
            shape.append(("end", ""))


_CONTINUATION = re.compile(r"\\\r?\n")


def _add_gap(shape: list[ShapeItem], text: str) -> None:
    """Add text that no token covers, unless it is blanks and lines that are continued."""
    if text.strip() and _CONTINUATION.sub("", text).strip():
        shape.append(("gap", text))


def _add_token(shape: list[ShapeItem], kind: str, text: str) -> None:
    if text and not text.strip() and not kind.strip():
        # Newlines that end statements: one does what several do.
        if shape and shape[-1] != ("newline", ""):
            shape.append(("newline", ""))
    elif text.strip() == kind:
        shape.append((kind, ""))  # some tokens begin with the blanks before them
    elif kind == "preproc_arg":
        shape.append((kind, without_comments(text)))
    elif kind == "jsx_text":
        if text.strip() or "\n" not in text:
            shape.append((kind, text.strip("\r\n\t ") if "\n" in text else text))
    else:
        shape.append((kind, text.rstrip("\r\n") if kind.startswith("preproc") else text))


def _tidied(shape: list[ShapeItem]) -> list[ShapeItem]:
    """Leave out a last newline, and ``{}`` in JSX where it does not keep two texts apart."""
    last = len(shape) - 1
    while last > 0 and shape[last][0] == "end":
        last -= 1
    if shape[last] == ("newline", ""):
        del shape[last]  # a file may end without
    result: list[ShapeItem] = []
    for index, item in enumerate(shape):
        if item[0] == "jsx_empty":
            before = result[-1][0] if result else ""
            rest = (other[0] for other in shape[index + 1 :] if other[0] != "jsx_empty")
            if not (before == "jsx_text" == next(rest, "")):
                continue
        result.append(item)
    return result
