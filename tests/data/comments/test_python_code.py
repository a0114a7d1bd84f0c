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

from ift_lightning.data.comments import StripStatus, strip_code
from ift_lightning.data.comments.python_code import equal_trees


def strip(code: str) -> str:
    stripped = strip_code("python", code)
    assert stripped.status in (StripStatus.CHANGED, StripStatus.UNCHANGED), stripped.reason
    return stripped.text


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
    "no blank line is left first": ("# head\n\nx = 1\n", "x = 1\n"),
    "blank lines first stay": ("\n# head\n\nx = 1\n", "\n\nx = 1\n"),
    "no blank line is left last": ("x = 1\n\n# c\n", "x = 1\n"),
    "no newline at the end": ("x = 1  # c", "x = 1"),
    "last line is a comment": ("x = 1\n\n# c", "x = 1"),
    "last lines are comments": ("x = 1\n# b\n# c", "x = 1"),
    "windows": ("x = 1  # c\r\n# d\r\ny = 2\r\n", "x = 1\r\ny = 2\r\n"),
    "chinese": ("总 = 1  # 总数\n", "总 = 1\n"),
    "tabs": ("if x:\n\ty = 1\t# c\n", "if x:\n\ty = 1\n"),
    "decorator": ("@d  # c\ndef f(): pass\n", "@d\ndef f(): pass\n"),
    "no comment": ("x = 1\n", "x = 1\n"),
    "magics": (
        "%matplotlib inline\n!pip install x # y\nfiles = !ls # z\nx = 1 # c\nx?\n",
        "%matplotlib inline\n!pip install x # y\nfiles = !ls # z\nx = 1\nx?\n",
    ),
    "cell magic": ("%%time\nx = 1 # c\n", "%%time\nx = 1\n"),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_golden(name: str) -> None:
    code, stripped = GOLDEN[name]
    assert strip(code) == stripped
    assert strip(stripped) == stripped


KEPT = [
    ("#!/usr/bin/env python\nx = 1\n", "shebang"),
    ("\n#!/usr/bin/env python\nx = 1\n", "shebang"),
    ("# -*- coding: utf-8 -*-\nx = 1\n", "coding"),
    ("#!/bin/python\n# vim: set fileencoding=utf-8 :\nx = 1\n", "coding"),
    ("x = []  # type: list[int]\n", "type"),
    ("import os  # noqa: F401\n", "noqa"),
    ("import os  #NOQA\n", "noqa"),
    ("if x:  # pragma: no cover\n    pass\n", "pragma"),
    ("# fmt: off\nx = 1\n# fmt: on\n", "lint"),
    ("x = f()  # pylint: disable=all\n", "lint"),
    ("x = f()  # pyright: ignore\n", "lint"),
    ("x = eval(y)  # nosec\n", "nosec"),
    ("# %% first cell\nx = 1\n", "cell"),
    ('# /// script\n# dependencies = ["x"]\n# ///\nx = 1\n', "script metadata"),
]


@pytest.mark.parametrize(("code", "kind"), KEPT)
def test_comments_that_tools_read_stay(code: str, kind: str) -> None:
    stripped = strip_code("python", code)
    assert (stripped.text, stripped.status) == (code, StripStatus.UNCHANGED)
    assert stripped.counts[f"kept:{kind}"] >= 1


@pytest.mark.parametrize(
    "comment",
    ["# the encoding: utf-8", "#! not a shebang", "# types matter", "# noqalify", "# formatted:"],
)
def test_comments_that_only_look_like_those_go(comment: str) -> None:
    assert strip(f"x = 1\ny = 2\n{comment}\nz = 3  {comment}\n") == "x = 1\ny = 2\nz = 3\n"


NOT_CODE = {
    "prose": "Write a function # 1",
    "colour": "#ff0000",
    "heading": "# Title",
    "list": "# 1\n# 2\n",
    "broken": "def f(:\n    pass  # c\n",
    "indented": "    return 1  # c\n",
    "zero byte": "x = 1\0  # c",
    "markdown": "Here it is:\n```python\nx = 1  # c\n```\n",
    "carriage return": "x = 1  # c\ry = 2\n",  # ends a comment to Python, not to its tokenizer
    "too deep": "(" * 5000 + ")" * 5000 + "  # c",
    "another language's cell": "%%bash\nls # c\n",
}


@pytest.mark.parametrize("name", NOT_CODE)
def test_what_is_no_code_is_left(name: str) -> None:
    stripped = strip_code("python", NOT_CODE[name])
    assert (stripped.text, stripped.status) == (NOT_CODE[name], StripStatus.NOT_PARSABLE)
    assert stripped.reason


def test_invalid_escapes_are_not_warned_about() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert strip("x = '\\d'  # c\n") == "x = '\\d'\n"


DOCSTRINGS = {
    "module, function, class": (
        '"""m"""  # c\nimport a\n\n\ndef f():\n    """d"""\n    return 1\n\n\n'
        'class A:\n    """d\n    e"""\n\n    x = 1\n',
        "import a\n\n\ndef f():\n    return 1\n\n\nclass A:\n\n    x = 1\n",
    ),
    "a body that empties": ('def f():\n    """d"""  # c\n', "def f():\n    pass\n"),
    "a module that empties": ('"""m"""\n', "pass\n"),
    "on the same line": ('def f(): "d"; return 1\n', "def f(): return 1\n"),
    "several strings": (
        'def f():\n    "a"\n    "b"\n    return "c"\n',
        'def f():\n    return "c"\n',
    ),
    "in brackets": (
        'def f():\n    ("a"  # c\n     "b")\n    return 1\n',
        "def f():\n    return 1\n",
    ),
    "semicolon": ('"""m""";\nx = 1\n', "x = 1\n"),
    "before a decorator": (
        'class A:\n    "é"\n    @p\n    def é(self): "é"; return 1\n',
        "class A:\n    @p\n    def é(self): return 1\n",
    ),
    "no docstrings": ('x = """a"""\nf"""b"""\nb"""c"""\n', 'x = """a"""\nf"""b"""\nb"""c"""\n'),
    "read by the code": ('"""m"""\nprint(__doc__)  # c\n', '"""m"""\nprint(__doc__)\n'),
}


@pytest.mark.parametrize("name", DOCSTRINGS)
def test_docstrings(name: str) -> None:
    code, expected = DOCSTRINGS[name]
    stripped = strip_code("python", code, strip_docstrings=True)
    assert stripped.text == expected, stripped.reason
    assert strip_code("python", expected, strip_docstrings=True).text == expected
    assert '"""m"""' not in code or '"""m"""' in strip(code)  # the switch is off by default


@pytest.mark.parametrize(
    ("first", "second"),
    [("x = 0.0", "x = -0.0"), ("x = 1", "x = 1.0"), ("x = 1", "x = True"), ("f(a)", "f(b)"),
     ("x = 'a'", "x = b'a'"), ("x = u'a'", "x = 'a'"), ("[a]", "[a, a]"), ("x", "x; x")],
)  # fmt: skip
def test_equal_trees_tells_trees_apart(first: str, second: str) -> None:
    assert not equal_trees(ast.parse(first), ast.parse(second))
    assert equal_trees(ast.parse(first), ast.parse(f"\n{first}"))
    assert equal_trees(ast.parse(second), ast.parse(f"{second} # c"))


def comments(code: str) -> list[str]:
    tokens = tokenize.generate_tokens(io.StringIO(code).readline)
    return [token.string for token in tokens if token.type == tokenize.COMMENT]


KEPT_WORDS = ("type:", "noqa", "pragma", "pylint", "fmt:", "coding", "#!", "nosec", "mypy:", "%%")


def check(code: str) -> None:
    stripped = strip(code)
    assert ast.dump(ast.parse(stripped)) == ast.dump(ast.parse(code))
    assert strip(stripped) == stripped
    left = comments(stripped)
    assert all(any(word in text.lower() for word in KEPT_WORDS) for text in left), left


STATEMENTS = st.sampled_from(
    ["x = 1", "s = '# no'", 's = """a\n# b\n"""', "f(1,\n  2)", "if x:\n    pass", "y = x // 2", ""]
)
COMMENTS = st.text(st.characters(exclude_characters="\r\n\0\1", exclude_categories=["Cs"])).map(
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
    stripped = strip(code)
    assert ast.dump(ast.parse(stripped)) == before
    assert strip(stripped) == stripped
    assert stripped.endswith("\n") == code.endswith("\n") or not stripped.strip()


def library_files() -> list[Path]:
    root = Path(sysconfig.get_paths()["stdlib"])
    return sorted(path for path in root.rglob("*.py") if "site-packages" not in path.parts)


def check_file(file: Path) -> bool:
    """Check a file; return whether it had a comment."""
    try:
        code = file.read_bytes().decode()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if not ast.parse(code).body:
                return False
    except (ValueError, SyntaxError):
        return False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check(code)
        return bool(comments(code))


def test_standard_library_sample() -> None:
    files = [file for file in library_files() if file.stat().st_size < 20_000][::60]
    assert len(files) > 10
    assert sum(check_file(file) for file in files) > 5


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_standard_library() -> None:
    assert sum(check_file(file) for file in library_files()) > 1000
