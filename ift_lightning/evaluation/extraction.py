"""From a raw completion to the program in it, without making anything cut off look whole.

A program is taken from the text as it stands, or not at all: whole top-level statements may be left
out behind the asked-for function, never part of one. Whatever cannot be used says why.
"""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum


class Extracted(StrEnum):
    """How an extraction ended; all but the first are counted as failures."""

    CODE = "code"
    EMPTY = "empty"  # nothing was written, or nothing behind the reasoning
    CUT_OFF = "cut_off"  # the program reaches to where the completion was cut off
    UNFINISHED_REASONING = "unfinished_reasoning"  # a reasoning block that does not end
    NO_FUNCTION = "no_function"  # there is code, and the function asked for is not in it
    SYNTAX_ERROR = "syntax_error"  # does not parse; kept as it is, so that running it fails


@dataclass(frozen=True, slots=True)
class Extraction:
    """The program in a completion.

    ``code`` is what can be run, and empty where nothing can be.
    """

    code: str
    status: Extracted


_REASONING_TAGS = ("think", "thinking", "reasoning", "thought")
_TAGS = "|".join(_REASONING_TAGS)
_REASONING = re.compile(rf"<({_TAGS})>.*?</\1>", re.DOTALL)
_REASONING_END = re.compile(rf"</(?:{_TAGS})>")
_REASONING_START = re.compile(rf"<(?:{_TAGS})>")
_FENCE = re.compile(r"^[ \t]{0,3}(?P<fence>`{3,}|~{3,})[ \t]*(?P<info>[^`\n]*)$", re.MULTILINE)
_CLAUSE = re.compile(r"(?:else|elif|except|finally|case)\b")
_PYTHON = ("", "python", "python3", "py", "py3")


@dataclass(frozen=True, slots=True)
class _Block:
    """A fenced block."""

    language: str
    text: str
    is_closed: bool


def strip_reasoning(text: str) -> str | None:
    """Return the text without its reasoning blocks; None where one of them has no end.

    A block that was opened in the prompt only shows its end.
    """
    text = _REASONING.sub("", text)
    # What stands before an end without a beginning was opened in the prompt.
    text = _REASONING_END.split(text)[-1]
    return None if _REASONING_START.search(text) else text


def fenced_blocks(text: str) -> list[_Block]:
    """Return the fenced blocks of a Markdown text; the last one may have no end."""
    blocks: list[_Block] = []
    position = 0
    while match := _FENCE.search(text, position):
        fence, start = match["fence"], min(match.end() + 1, len(text))
        close = re.compile(rf"^[ \t]{{0,3}}{fence[0]}{{{len(fence)},}}[ \t]*$", re.MULTILINE)
        end = close.search(text, start)
        language = match["info"].strip().split(" ")[0].lower()
        stop = end.start() if end else len(text)
        blocks.append(_Block(language, text[start:stop], end is not None))
        if end is None:
            break
        position = end.end()
    return blocks


def extract_answer(completion: str, *, is_cut_off: bool = False) -> Extraction:
    """Return the answer in a completion of any language: its first fenced block, or all of it.

    Args:
        completion: Raw text.
        is_cut_off: Whether generation ended for want of room. The text is kept all the same; it
            is compared, not run.
    """
    text = strip_reasoning(completion)
    if text is None:
        return Extraction("", Extracted.UNFINISHED_REASONING)
    blocks = fenced_blocks(text)
    answer = (blocks[0].text if blocks else text).strip("\n").rstrip()
    if not answer.strip():
        return Extraction("", Extracted.EMPTY)
    reaches_end = not blocks or not blocks[0].is_closed
    return Extraction(answer, Extracted.CUT_OFF if is_cut_off and reaches_end else Extracted.CODE)


def extract_program(
    completion: str, *, entry_point: str = "", prompt: str = "", is_cut_off: bool = False
) -> Extraction:
    """Return the Python program in a completion.

    Args:
        completion: Raw text. It may be prose with fenced blocks, a bare program, or the bare body
            of a function that ``prompt`` begins.
        entry_point: Function that the tests call; empty where there is none.
        prompt: Code that the completion continues, as in HumanEval; empty where there is none.
        is_cut_off: Whether generation ended for want of room.
    """
    text = strip_reasoning(completion)
    if text is None:
        return Extraction("", Extracted.UNFINISHED_REASONING)
    if not text.strip():
        return Extraction("", Extracted.EMPTY)
    failures: list[Extraction] = []
    for part, part_is_cut in _parts(text, is_cut_off):
        for candidate, num_given in _candidates(part, entry_point, prompt):
            found = _whole_program(candidate, entry_point, part_is_cut, num_given)
            if found.status is Extracted.CODE:
                return found
            failures.append(found)
    # The first part is where the answer should have been. Code that does not parse is handed on.
    for status in (Extracted.CUT_OFF, Extracted.SYNTAX_ERROR, Extracted.NO_FUNCTION):
        for found in failures:
            if found.status is status:
                return found
    return Extraction("", Extracted.EMPTY)


def _parts(text: str, is_cut_off: bool) -> Iterator[tuple[str, bool]]:
    """Yield the stretches of text that may be the program, and whether each one was cut off."""
    blocks = [block for block in fenced_blocks(text) if block.language in _PYTHON]
    for block in blocks:
        yield block.text, is_cut_off and not block.is_closed
    if not blocks:
        yield text, is_cut_off


def _candidates(text: str, entry_point: str, prompt: str) -> Iterator[tuple[str, int]]:
    """Yield the programs that a stretch of text may stand for.

    With each goes the number of lines that were given: the function has to go on behind them.
    """
    defines_it = bool(entry_point) and _definition(entry_point).search(text) is not None
    if prompt and _definition(entry_point).search(prompt) and not defines_it:
        # The body of the function that the prompt begins.
        num_given = len(prompt.strip("\n").splitlines())
        yield _join(prompt, text), num_given
        if text.strip() and not text.lstrip("\n")[0].isspace():
            indented = textwrap.indent(text, _body_indent(prompt, entry_point))
            yield _join(prompt, indented), num_given
        return
    if prompt and defines_it:
        # The whole function again: what the prompt brings before it, imports and helpers, stays.
        match = _definition(entry_point).search(prompt)
        preamble = prompt[: match.start()].rstrip() if match else ""
        if preamble:
            for start in _starts(text):
                yield f"{preamble}\n\n\n{text[start:]}", 0
            return
    for start in _starts(text):
        yield text[start:], 0


def _join(prompt: str, body: str) -> str:
    return prompt + body if prompt.endswith("\n") or body.startswith("\n") else f"{prompt}\n{body}"


def _definition(name: str) -> re.Pattern[str]:
    return re.compile(rf"^(?:async[ \t]+)?(?:def|class)[ \t]+{re.escape(name)}\b", re.MULTILINE)


def _body_indent(prompt: str, entry_point: str) -> str:
    match = _definition(entry_point).search(prompt)
    lines = prompt[match.end() :].splitlines()[1:] if match else []
    indents = [line[: len(line) - len(line.lstrip())] for line in lines if line.strip()]
    return next((indent for indent in indents if indent), "    ")


def _starts(text: str) -> Iterator[int]:
    """Yield 0, and where code may begin behind prose."""
    yield 0
    pattern = r"^(?:@|async[ \t]+def\b|def\b|class\b|import\b|from\b|try[ \t]*:)"
    for match in re.finditer(pattern, text, re.MULTILINE):
        if match.start() > 0:
            yield match.start()


def _whole_program(text: str, entry_point: str, is_cut_off: bool, num_given: int) -> Extraction:
    """Return the longest run of whole top-level statements that has the function asked for.

    Args:
        text: Code.
        entry_point: Function that it has to define; empty for any code.
        is_cut_off: Whether the last statement may lack something.
        num_given: Lines that the function has to reach beyond: those of a prompt that it began in.
    """
    text = text.strip("\n")
    lines = text.splitlines(keepends=True)
    # Where a statement at the margin begins, so that everything before it is whole.
    ends = [
        number
        for number, line in enumerate(lines)
        if number and not line[0].isspace() and not _CLAUSE.match(line)
    ]
    if not is_cut_off:
        ends.append(len(lines))
    for end in reversed(ends):
        code = "".join(lines[:end]).rstrip()
        tree = _parse(code)
        if tree is None or not tree.body:
            continue
        if not entry_point or _defines(tree, entry_point, num_given):
            stop = _end_of_definitions(tree, num_given) if num_given else None
            return Extraction("".join(lines[: stop or end]).rstrip() + "\n", Extracted.CODE)
        break
    if is_cut_off:
        return Extraction("", Extracted.CUT_OFF)
    if entry_point and not _definition(entry_point).search(text):
        return Extraction("", Extracted.NO_FUNCTION)
    if num_given and len(lines) <= num_given:
        return Extraction("", Extracted.EMPTY)
    return Extraction(text.rstrip() + "\n", Extracted.SYNTAX_ERROR)


def _end_of_definitions(tree: ast.Module, num_given: int) -> int | None:
    """Return the line where a body's continuation begins to call things; None where it does not.

    A model that goes on with a function does not stop at its end. What it writes next often reads
    input or prints; the usual stop strings of HumanEval keep that out, and so does this.
    """
    definitions = (
        ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
        | ast.Import | ast.ImportFrom | ast.Assign | ast.AnnAssign
    )  # fmt: skip
    for node in tree.body:
        if node.lineno > num_given and not isinstance(node, definitions):
            return node.lineno - 1
    return None


def _parse(code: str) -> ast.Module | None:
    try:
        return ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _defines(tree: ast.Module, name: str, num_given: int) -> bool:
    """Whether a module binds ``name`` at its top level, also inside ``if`` and ``try``.

    A function that ends within the first ``num_given`` lines does not count.
    """
    for node in _top_level(tree.body):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            if node.name == name and (node.end_lineno or 0) > num_given:
                return True
        elif isinstance(node, ast.Assign):
            targets = [item for target in node.targets for item in ast.walk(target)]
            if any(isinstance(item, ast.Name) and item.id == name for item in targets):
                return True
        elif isinstance(node, ast.Import | ast.ImportFrom) and any(
            (alias.asname or alias.name) == name for alias in node.names
        ):
            return True
    return False


def _top_level(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    for node in body:
        yield node
        if isinstance(node, ast.If | ast.Try):
            yield from _top_level(node.body)
            yield from _top_level(node.orelse)
            if isinstance(node, ast.Try):
                for handler in node.handlers:
                    yield from _top_level(handler.body)
