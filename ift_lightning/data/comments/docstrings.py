"""Python's docstrings: found in the syntax tree, taken out of the text.

A body may begin with several strings. Once the first is gone, the next would become the
docstring, so all of them go.
"""

from __future__ import annotations

import ast
import re

_Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def uses_docstrings(tree: ast.Module) -> bool:
    """Return whether the code reads a docstring, which is then part of the program."""
    return any(
        (isinstance(node, ast.Name) and node.id == "__doc__")
        or (isinstance(node, ast.Attribute) and node.attr == "__doc__")
        or (isinstance(node, ast.Constant) and node.value == "__doc__")
        or (isinstance(node, ast.Import) and any(name.name == "doctest" for name in node.names))
        for node in ast.walk(tree)
    )


def drop_docstrings(tree: ast.Module) -> None:
    """Turn a tree into the one that is expected once the docstrings are gone."""
    for node in ast.walk(tree):
        if isinstance(node, _Documented):
            num_strings = len(_leading_strings(node))
            if num_strings:
                node.body = node.body[num_strings:] or [ast.Pass()]


def remove_docstrings(code: str, tree: ast.Module) -> tuple[str, int]:
    """Return the code without its docstrings, and how many bodies had one.

    Args:
        code: Python source.
        tree: Its syntax tree.
    """
    edits: list[tuple[int, int, str]] = []
    lines = code.split("\n")
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line) + 1)

    def offset(row: int, column: int) -> int:
        line = lines[row - 1]
        if line.isascii():
            return starts[row - 1] + column
        return starts[row - 1] + len(line.encode("utf-8", "surrogatepass")[:column].decode())

    for node in ast.walk(tree):
        if not isinstance(node, _Documented):
            continue
        strings = _leading_strings(node)
        if not strings:
            continue
        first, last = strings[0], strings[-1]
        start = offset(first.lineno, first.col_offset)
        end = offset(last.end_lineno or 0, last.end_col_offset or 0)
        if len(node.body) == len(strings):
            edits.append((start, end, "pass"))
            continue
        following = node.body[len(strings)]
        decorators = getattr(following, "decorator_list", [])
        next_row = min([following.lineno, *(item.lineno for item in decorators)])
        if next_row == last.end_lineno:
            edits.append((start, offset(following.lineno, following.col_offset), ""))
        else:
            edits.append((*_whole_lines(code, start, end), ""))
    for start, end, text in sorted(edits, reverse=True):
        code = code[:start] + text + code[end:]
    return code, len(edits)


def _leading_strings(node: _Documented) -> list[ast.stmt]:
    strings: list[ast.stmt] = []
    for statement in node.body:
        is_string = (
            isinstance(statement, ast.Expr)
            and isinstance(statement.value, ast.Constant)
            and isinstance(statement.value.value, str)
        )
        if not is_string:
            break
        strings.append(statement)
    return strings


_REST_OF_LINE = re.compile(r"[ \t]*;?[ \t]*(\r?\n)?")


def _whole_lines(code: str, start: int, end: int) -> tuple[int, int]:
    """Widen a statement's span to its lines; a comment behind it keeps the line."""
    match = _REST_OF_LINE.match(code, end)
    if match is None or not match[1]:
        semicolon = re.compile(r"[ \t]*;").match(code, end)
        return start, semicolon.end() if semicolon else end
    line_start = code.rfind("\n", 0, start) + 1
    if code[line_start:start].strip():
        return start, end
    return line_start, match.end()
