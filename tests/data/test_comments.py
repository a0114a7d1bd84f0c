"""Comments go, the program stays: over golden texts, made-up programs and the standard library."""

from __future__ import annotations

import ast
import io
import sysconfig
import tokenize
import warnings
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ift_lightning.data.comments import (
    CommentStrippingError,
    strip_python_comments,
    strip_record_comments,
)
from ift_lightning.errors import BadRowError
from ift_lightning.types import InstructionRecord, Message

GOLDEN = {
    "end of line": ("x = 1  # one\ny = 2\n", "x = 1\ny = 2\n"),
    "line of its own": ("# head\nx = 1\n    # odd indent\ny = 2\n", "x = 1\ny = 2\n"),
    "within brackets": ("f(\n    1,  # a\n    # b\n    2,\n)\n", "f(\n    1,\n    2,\n)\n"),
    "integer division": ("m = (lo + hi) // 2  # middle\n", "m = (lo + hi) // 2\n"),
    "strings": (
        'c = "#ff0000"  # red\nu = \'http://x#y\'\nd = """\n# text\n"""\n',
        'c = "#ff0000"\nu = \'http://x#y\'\nd = """\n# text\n"""\n',
    ),
    "docstring": ('def f():\n    """# Doc."""\n    # c\n', 'def f():\n    """# Doc."""\n'),
    "blank lines stay": ("a = 1\n\n# c\n\nb = 2\n", "a = 1\n\n\nb = 2\n"),
    "no newline at the end": ("x = 1  # c", "x = 1"),
    "last line is a comment": ("x = 1\n\n# c", "x = 1"),
    "last lines are comments": ("x = 1\n# b\n# c", "x = 1"),
    "windows": ("x = 1  # c\r\n# d\r\ny = 2\r\n", "x = 1\r\ny = 2\r\n"),
    "chinese": ("总 = 1  # 总数\n", "总 = 1\n"),
    "tabs": ("if x:\n\ty = 1\t# c\n", "if x:\n\ty = 1\n"),
    "decorator": ("@d  # c\ndef f(): pass\n", "@d\ndef f(): pass\n"),
    "no comment": ("x = 1\n", "x = 1\n"),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_golden(name: str) -> None:
    code, stripped = GOLDEN[name]
    assert strip_python_comments(code) == stripped
    assert strip_python_comments(stripped) == stripped


KEPT = [
    "#!/usr/bin/env python\nx = 1\n",
    "# -*- coding: utf-8 -*-\nx = 1\n",
    "#!/bin/python\n# vim: set fileencoding=utf-8 :\nx = 1\n",
    "x = []  # type: list[int]\n",
    "import os  # noqa: F401\n",
    "import os  #NOQA\n",
    "if x:  # pragma: no cover\n    pass\n",
    "# fmt: off\nx = 1\n# fmt: on\n",
    "x = f()  # pylint: disable=all\n",
    "x = f()  # pyright: ignore\n",
    "x = eval(y)  # nosec\n",
]


@pytest.mark.parametrize("code", KEPT)
def test_comments_that_tools_read_stay(code: str) -> None:
    assert strip_python_comments(code) == code


@pytest.mark.parametrize(
    "comment",
    ["# the encoding: utf-8", "#! not a shebang", "# types matter", "# noqalify", "# formatted:"],
)
def test_comments_that_only_look_like_those_go(comment: str) -> None:
    assert strip_python_comments(f"x = 1\ny = 2\n{comment}\nz = 3  {comment}\n") == (
        "x = 1\ny = 2\nz = 3\n"
    )


NOT_CODE = {
    "prose": "Write a function # 1",
    "colour": "#ff0000",
    "heading": "# Title",
    "list": "# 1\n# 2\n",
    "empty": "",
    "broken": "def f(:\n    pass  # c\n",
    "indented": "    return 1  # c\n",
    "zero byte": "x = 1\0  # c",
    "markdown": "Here it is:\n```python\nx = 1  # c\n```\n",
    "carriage return": "x = 1  # c\ry = 2\n",  # ends a comment to Python, not to its tokenizer
    "too deep": "(" * 5000 + ")" * 5000 + "  # c",
}


@pytest.mark.parametrize("name", NOT_CODE)
def test_what_is_no_code_is_refused_and_left_in_records(name: str) -> None:
    text = NOT_CODE[name]
    with pytest.raises(CommentStrippingError):
        strip_python_comments(text)
    record = InstructionRecord(
        "r", instruction="i", input=text, output=text or "x", language="python"
    )
    assert strip_record_comments(record) == record


def test_invalid_escapes_are_not_warned_about() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert strip_python_comments("x = '\\d'  # c\n") == "x = '\\d'\n"


def test_record() -> None:
    record = InstructionRecord(
        id="r",
        instruction="x = 1  # asked about",
        input="y = 2  # c\n",
        output="z = 3  # c\n",
        language="python",
        category="c",
        tests=("assert f()  # c",),
    )
    stripped = strip_record_comments(record)
    assert (stripped.input, stripped.output) == ("y = 2\n", "z = 3\n")
    assert (stripped.id, stripped.instruction) == ("r", "x = 1  # asked about")
    assert (stripped.category, stripped.tests) == ("c", ("assert f()  # c",))


def test_chat() -> None:
    turns = (Message("user", "Comment `x = 1`"), Message("assistant", "x = 1  # one"))
    record = InstructionRecord(id="r", messages=turns, language="python")
    assert strip_record_comments(record).messages == (turns[0], Message("assistant", "x = 1"))


@pytest.mark.parametrize(("language", "said"), [("c", "'c'"), ("", "'not stated'")])
def test_other_languages_are_refused(language: str, said: str) -> None:
    with pytest.raises(BadRowError, match=f"language is {said}") as caught:
        strip_record_comments(InstructionRecord(id="r", output="x", language=language))
    assert caught.value.field == "language"


def comments(code: str) -> list[str]:
    tokens = tokenize.generate_tokens(io.StringIO(code).readline)
    return [token.string for token in tokens if token.type == tokenize.COMMENT]


KEPT_WORDS = ("type:", "noqa", "pragma", "pylint", "fmt:", "coding", "#!", "nosec", "mypy:")


def check(code: str) -> None:
    stripped = strip_python_comments(code)
    assert ast.dump(ast.parse(stripped)) == ast.dump(ast.parse(code))
    assert strip_python_comments(stripped) == stripped
    left = comments(stripped)
    assert all(any(word in text.lower() for word in KEPT_WORDS) for text in left), left


STATEMENTS = st.sampled_from(
    ["x = 1", "s = '# no'", 's = """a\n# b\n"""', "f(1,\n  2)", "if x:\n    pass", "y = x // 2", ""]
)
COMMENTS = st.text(st.characters(exclude_characters="\r\n\0", exclude_categories=["Cs"])).map(
    lambda text: "#" + text
)


@example(lines=[("", None), ("", "#")], end="")
@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(STATEMENTS, st.none() | COMMENTS), max_size=8), st.sampled_from(["", "\n"])
)
def test_made_up_programs(lines: list[tuple[str, str | None]], end: str) -> None:
    text = [
        f"{code}  {comment}" if comment else code for code, comment in [("z = 0", None), *lines]
    ]
    code = "\n".join(text) + end
    try:
        before = ast.dump(ast.parse(code))
    except (SyntaxError, ValueError):
        return
    stripped = strip_python_comments(code)
    assert ast.dump(ast.parse(stripped)) == before
    assert strip_python_comments(stripped) == stripped
    assert stripped.endswith("\n") == code.endswith("\n") or not stripped.strip()


def library_files() -> list[Path]:
    files = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
    return [file for file in files if file.stat().st_size < 120_000]


def check_file(file: Path) -> bool:
    code = file.read_text(encoding="utf-8", errors="replace")
    if not ast.parse(code).body:
        return False
    check(code)
    return bool(comments(code))


def test_standard_library_sample() -> None:
    files = [file for file in library_files() if file.stat().st_size < 20_000][::5]
    assert len(files) > 10
    assert sum(check_file(file) for file in files) > 5


@pytest.mark.slow
def test_standard_library() -> None:
    assert sum(check_file(file) for file in library_files()) > 100
