"""Comments of Go that are part of the program by where they stand."""

from __future__ import annotations

import re

from tree_sitter import Node

_OUTPUT = re.compile(rb"^//\s*(?:unordered )?output:", re.IGNORECASE)


def go_directive(node: Node) -> str:
    """Return "cgo" for a comment that is C code, "output" for an example's expected output.

    Sources: https://pkg.go.dev/cmd/cgo and https://pkg.go.dev/testing#hdr-Examples

    Args:
        node: The comment.
    """
    if _is_cgo_preamble(node):
        return "cgo"
    return "output" if _is_example_output(node) else ""


def _is_cgo_preamble(node: Node) -> bool:
    following, row = node.next_sibling, node.end_point[0]
    while following is not None and following.type in ("comment", "\n"):
        if following.type == "comment":
            if following.start_point[0] > row + 1:
                return False
            row = following.end_point[0]
        following = following.next_sibling
    if following is None or following.start_point[0] > row + 1:
        return False
    if following.type == "import_spec":
        specs = [following]
    elif following.type == "import_declaration":
        specs = [child for child in following.named_children if child.type == "import_spec"]
    else:
        return False
    return any(spec.text is not None and spec.text.endswith(b'"C"') for spec in specs)


def _is_example_output(node: Node) -> bool:
    function = node.parent
    while function is not None and function.type != "function_declaration":
        function = function.parent
    name = function.child_by_field_name("name") if function is not None else None
    if name is None or not (name.text or b"").startswith(b"Example"):
        return False
    first: Node | None = node
    while first is not None and first.type in ("comment", "\n"):
        if first.type == "comment" and _OUTPUT.match(first.text or b""):
            return True
        first = first.prev_sibling
    return False
