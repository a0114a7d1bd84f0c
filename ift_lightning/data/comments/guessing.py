"""Which language a piece of code is in, where nobody says so.

A guess has to be safe rather than frequent: the code has to parse, and either the request names
that language alone, or the code bears signs of one language only. Otherwise there is no guess.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass

from ift_lightning.data.comments.grammars import as_bytes_text, grammar_name, parse
from ift_lightning.data.comments.html_code import begins_like_html
from ift_lightning.data.comments.python_code import parse_python
from ift_lightning.data.comments.stripping import refusal


@dataclass(frozen=True, slots=True)
class Guess:
    """A language, and what speaks for it."""

    language: str
    evidence: str


def _compiled(patterns: dict[str, str], flags: int = 0) -> dict[str, re.Pattern[str]]:
    return {name: re.compile(pattern, re.MULTILINE | flags) for name, pattern in patterns.items()}


_DECISIVE = _compiled(
    {
        "php": r"\A\s*<\?php\b",
        "shell": r"\A\s*#!.*\b(?:ba|da|z|k)?sh\b",
        "python": r"\A\s*#!.*\bpython",
        "ruby": r"\A\s*#!.*\bruby",
        "javascript": r"\A\s*#!.*\bnode\b",
        "html": r"\A\s*<(?:!DOCTYPE\s+html|html)\b",
    },
    re.IGNORECASE,
)
_NAMED = {
    **_compiled(
        {
            "python": r"\b(?:python\d?|django|flask|numpy|pandas|pytorch|tensorflow|tkinter)\b",
            "java": r"\bjava\b(?!\s*script)",
            "javascript": r"\b(?:java\s?script|node\.?js|react(?:\.?js)?|jquery|es6|vue)\b",
            "typescript": r"\b(?:typescript|angular)\b",
            "cpp": r"(?<!\w)(?:c\+\+|cpp)",
            "csharp": r"(?<!\w)(?:c#|c sharp|asp\.net|\.net)",
            "go": r"\bgolang\b",
            "php": r"\b(?:php|laravel|wordpress)\b",
            "ruby": r"\b(?:ruby|rails)\b",
            "rust": r"\brust\b",
            "sql": r"\b(?:sql|sqlite|oracle|t-sql|sql server)\b",
            "mysql": r"\b(?:mysql|mariadb)\b",
            "postgresql": r"\bpostgres(?:ql)?\b",
            "html": r"\bhtml5?\b",
            "css": r"\bcss3?\b",
            "shell": r"\b(?:bash|shell|unix command|linux command)\b",
        },
        re.IGNORECASE,
    ),
}
_NAMED_WITH_CASE = _compiled(
    {
        "c": r"\bC\b(?![+#'.\-]|\s?(?:sharp|Sharp))(?= (?:program|code|function|language|struct|"
        r"snippet)|\s*(?:[.,:?]|$))|\b(?:in|using) C\b(?![+#'\-])|\bANSI C\b",
        "go": r"\bGo\b (?:program|code|function|language|routine|struct|snippet)|\bin Go\b(?! to)",
    }
)
_SIGNS = _compiled(
    {
        "java": r"\bSystem\.out\.|^\s*import java\.|\bpublic static void main\s*\(\s*String\b",
        "javascript": r"\bconsole\.\w+\(|\bdocument\.(?:get|query|create)\w+\(|\brequire\(['\"]"
        r"|^\s*(?:const|let) \w+ = |\bfunction\s*\w*\([\w, ]*\)\s*\{|===|=>\s*[{(]",
        "typescript": r"^\s*(?:export )?interface \w+ \{|\w\??: (?:string|number|boolean)\b",
        "cpp": r"#include\s*<(?:iostream|vector|string|algorithm|map)>|\bstd::"
        r"|\b(?:cout|cin)\s*[<>]{2}|\busing namespace\b",
        "c": r"#include\s*<(?:stdio|stdlib|string)\.h>",
        "csharp": r"^\s*using System\b|\bConsole\.(?:Write|Read)",
        "go": r"^package \w+\s*$|\bfmt\.Print|^func \w+\(.*\{\s*$",
        "ruby": r"^\s*def \w+[?!]?(?:\(.*\))?\s*$[\s\S]*^\s*end\b|\.each do \|",
        "rust": r"\bfn \w+\s*[(<].*\{|\blet mut \w|\bprintln!\(",
        "sql": r"\A\s*(?:--[^\n]*\s+)*(?:SELECT\b[\s\S]+\bFROM|INSERT INTO|UPDATE\b[\s\S]+\bSET|"
        r"DELETE FROM|CREATE (?:TABLE|VIEW|INDEX|DATABASE)|ALTER TABLE|DROP TABLE)\b",
        "html": r"\A\s*(?:<!--[\s\S]*?-->\s*)*<(?:head|body|div|form|table|ul|ol|p|h[1-6]|nav|"
        r"section|header|footer|main|style|script|svg|button|input|img|a)\b[\s\S]*>\s*\Z",
        "css": r"\A\s*(?:/\*[\s\S]*?\*/\s*)*[\w.#*:\-][^{};=()]*\{\s*(?:/\*[\s\S]*?\*/\s*)*"
        r"[a-z-]+\s*:[^{}]+;",
    }
)
# What parses in one of a pair also parses in the other; signs decide.
_SUPERSETS = {"typescript": "javascript", "cpp": "c", "mysql": "sql", "postgresql": "sql"}


def guess_language(code: str, request: str = "") -> Guess | None:
    """Return the language of code, or None where it is not clear.

    Args:
        code: A piece of code, or any text.
        request: What was asked for, which may name a language.
    """
    for language, pattern in _DECISIVE.items():
        if pattern.search(code):
            return Guess(language, "first line") if parses(language, code) else None
    signs = [name for name, pattern in _SIGNS.items() if pattern.search(code)]
    signs = [name for name in signs if parses(name, code)]
    if is_surely_python(code):
        signs.append("python")
    for wide, narrow in _SUPERSETS.items():
        if wide in signs and narrow in signs:
            signs.remove(narrow)
    named = [name for name in _named_in(request) if name in signs or parses(name, code)]
    if len(named) == 1 and (not signs or signs == named or _agree(named[0], signs)):
        return Guess(named[0], "named in the request")
    if len(signs) == 1 and (not named or signs[0] in named):
        return Guess(signs[0], "signs in the code")
    return None


def _agree(named: str, signs: list[str]) -> bool:
    """Return whether signs of a language's narrower or wider kin are all there are."""
    kin = {named, _SUPERSETS.get(named, named)}
    kin |= {wide for wide, narrow in _SUPERSETS.items() if narrow == named}
    return all(sign in kin for sign in signs)


def _named_in(request: str) -> list[str]:
    found = [name for name, pattern in _NAMED.items() if pattern.search(request)]
    found += [name for name, pattern in _NAMED_WITH_CASE.items() if pattern.search(request)]
    names = list(dict.fromkeys(found))
    if "sql" in names and ("mysql" in names or "postgresql" in names):
        names.remove("sql")
    return names


def parses(language: str, code: str) -> bool:
    """Return whether a text is a program in a language, as far as its parser can tell."""
    if refusal(language, code):
        return False
    if language == "python":
        tree = parse_python(code)
        return tree is not None and bool(tree.body)
    text = as_bytes_text(code)
    if language == "html" and not begins_like_html(code):
        return False
    parsed = parse(grammar_name(language, text), text)
    return parsed is not None and parsed.tree.root_node.child_count > 0


def is_surely_python(code: str) -> bool:
    """Return whether a text parses as Python and has a statement that only Python writes so."""
    tree = parse_python(code)
    if tree is None:
        return False
    blocks = (
        ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.If | ast.For | ast.While
    ) | (ast.With | ast.Try | ast.Import | ast.ImportFrom)
    return any(isinstance(node, blocks) or _is_print(node) for node in tree.body)


def _is_print(node: ast.stmt) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Call)
        and isinstance(node.value.func, ast.Name)
        and node.value.func.id == "print"
    )
