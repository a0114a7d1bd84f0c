"""The proofs notice an edit that did more, or less, than it should."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ift_lightning.data.comments import (
    StripStatus,
    grammar_code,
    html_code,
    python_code,
    strip_code,
)

C = "int x = 1; // c\n// NOLINT\nint y;\n"
GO = "package x\n\nfunc f() int { return 1 } // c\n"
PYTHON = "x = 1  # c\ny = 2  # noqa\n"
HTML = "<p>a b</p> <!-- c -->\n<pre>  x</pre>\n"

# language, code, what a broken edit would do, what is said about it
BROKEN: list[tuple[str, str, Callable[[str], str], str]] = [
    ("c", C, lambda code: "int x = 2;\n// NOLINT\nint y;\n", "other tokens"),
    ("c", C, lambda code: "int x = 1;\n// NOLINT\n", "other tokens"),
    ("c", C, lambda code: "int x = 1\n// NOLINT\nint y;\n", "syntax error"),
    ("c", C, lambda code: code, "a comment is left"),
    ("c", C, lambda code: "int x = 1;\nint y;\n", "would have been lost"),
    ("go", GO, lambda code: GO.replace("return 1", "return\n1"), "other tokens|syntax"),
    ("python", PYTHON, lambda code: "x = 1\ny = 3  # noqa\n", "syntax tree"),
    ("python", PYTHON, lambda code: "x = \ny = 2  # noqa\n", "syntax tree"),
    ("python", PYTHON, lambda code: code, "a comment is left"),
    ("python", PYTHON, lambda code: "x = 1\ny = 2\n", "would have been lost"),
    ("html", HTML, lambda code: "<p>ab</p>\n<pre>  x</pre>\n", "page would have changed"),
    ("html", HTML, lambda code: "<p>a b</p>\n<pre> x</pre>\n", "page would have changed"),
    ("html", HTML, lambda code: "<p id=a>a b</p>\n<pre>  x</pre>\n", "page would have changed"),
    ("html", HTML, lambda code: code, "a comment is left"),
]


@pytest.mark.parametrize(("language", "code", "edit", "reason"), BROKEN)
def test_a_broken_edit_is_noticed(
    monkeypatch: pytest.MonkeyPatch,
    language: str,
    code: str,
    edit: Callable[[str], str],
    reason: str,
) -> None:
    assert strip_code(language, code).status is StripStatus.CHANGED
    for module in (grammar_code, html_code, python_code):
        monkeypatch.setattr(module, "remove_comments", lambda text, *rest: edit(text))
    stripped = strip_code(language, code)
    assert (stripped.text, stripped.status) == (code, StripStatus.PROOF_FAILED)
    assert any(part in stripped.reason for part in reason.split("|")), stripped.reason


@pytest.mark.parametrize(
    ("language", "code", "comment"),
    [
        ("c", 'char *s = "a  b";', "// c"),
        ("javascript", "s = `a  ${b}  c`;", "// c"),
        ("csharp", 'var s = @"a  b";', "// c"),
        ("ruby", 's = "a  b"', "# c"),
        ("shell", "echo 'a  b'", "# c"),
        ("sql", "SELECT 'a  b' FROM t;", "-- c"),
    ],
)
def test_blanks_within_strings_count(
    monkeypatch: pytest.MonkeyPatch, language: str, code: str, comment: str
) -> None:
    commented = f"{code} {comment}\n"
    assert strip_code(language, commented).text == f"{code}\n"
    broken = code.replace("a  ", "a ") + "\n"
    monkeypatch.setattr(grammar_code, "remove_comments", lambda *rest: broken)
    assert strip_code(language, commented).status is StripStatus.PROOF_FAILED
