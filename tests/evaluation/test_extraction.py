"""What is taken for a program, and what is refused."""

from __future__ import annotations

import ast
import textwrap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ift_lightning.evaluation.extraction import (
    Extracted,
    extract_answer,
    extract_program,
    fenced_blocks,
    strip_reasoning,
)

FUNCTION = "def add(a, b):\n    total = a + b\n    return total\n"
STUB = 'from typing import List\n\n\ndef helper(x):\n    return x\n\n\ndef add(a: int, b: int):\n    """Add.\n    >>> add(1, 2)\n    3\n    """\n'  # noqa: E501


def code(completion: str, **options: object) -> str:
    options = {"entry_point": "add", **options}
    found = extract_program(completion, **options)  # type: ignore[arg-type]
    assert found.status is Extracted.CODE, found
    return found.code


def status(completion: str, **options: object) -> Extracted:
    options = {"entry_point": "add", **options}
    return extract_program(completion, **options).status  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "completion",
    [
        FUNCTION,
        f"\n\n{FUNCTION}\n\n",
        f"```python\n{FUNCTION}```",
        f"```\n{FUNCTION}```\n",
        f"~~~py\n{FUNCTION}~~~",
        f"Here you are:\n\n```python\n{FUNCTION}```\n\nIt adds two numbers.",
        f"Here you are:\n{FUNCTION}\nIt adds two numbers.",
        f"<think>\ndef add(a, b): wrong\n```python\ndef add(): 0\n```\n</think>\n{FUNCTION}",
        f"The prompt opened the block.\n</think>\n```python\n{FUNCTION}```",
        f"```bash\npip install x\n```\n```python\n{FUNCTION}```",
        f"```python\nimport os\n```\nand then\n```python\n{FUNCTION}```",
        f"````markdown\nuse ```\n````\n```python\n{FUNCTION}```",
    ],
)
def test_function_is_found_as_it_was_written(completion: str) -> None:
    assert code(completion) == FUNCTION


@pytest.mark.parametrize(
    "program",
    [
        "import functools\n\n\n@functools.lru_cache\n@other(1)\ndef add(a, b):\n    return a + b\n",
        "try:\n    import numpy\nexcept ImportError:\n    numpy = None\n\ndef add(a, b):\n    return a\n",  # noqa: E501
        "def helper(x):\n    return x\n\n\ndef add(a, b):\n    return helper(a) + b\n",
        "def add(a, b):\n    return later(a) + b\n\n\ndef later(x):\n    return x\n",
        "if True:\n    def add(a, b):\n        return a\nelse:\n    add = None\n",
        "add = lambda a, b: a + b\n",
        "class add:\n    pass\n",
        "async def add(a, b):\n    return a\n",
        'def add(a, b):\n    """Text at the\nmargin\ndef not_code(:\n    """\n    return a\n',
        "LIMIT = 3\n\ndef add(a, b):\n    return min(a + b, LIMIT)\n",
        "def add(\n    a,\n    b,\n):\n    return (\na + b\n)\n",
    ],
)
@pytest.mark.parametrize("frame", ["{}", "Sure, this is it:\n\n```python\n{}```\nDone."])
def test_whole_program_is_kept(program: str, frame: str) -> None:
    assert code(frame.format(program)) == program


@pytest.mark.parametrize(
    "frame",
    [
        "{}",
        "```python\n{}```",
        "{}\n\ndef unrelated(x):\n    return x",
    ],
)
def test_bare_body_continues_the_prompt(frame: str) -> None:
    body = "    total = a + b\n    return total\n"
    found = code(frame.format(body), prompt=STUB)
    assert found.startswith(STUB + body)
    names: dict[str, object] = {}
    exec(found, names)  # noqa: S102 - our own text
    assert names["add"](1, 2) == 3  # type: ignore[operator]


def test_what_a_model_goes_on_to_call_behind_a_body_is_left_out() -> None:
    body = "    return a + b\n\n\nimport sys\n\n\ndef helper(x):\n    return x\n"
    for more in (
        "print(add(1, input()))",
        'if __name__ == "__main__":\n    add(1, 2)',
        "add(1, 2)",
    ):
        assert code(f"{body}\n\n{more}\nx = 1\n", prompt=STUB) == STUB + body
    # Of a program as a whole, everything stays.
    assert code(f"{FUNCTION}\nprint(add(1, 2))\n") == f"{FUNCTION}\nprint(add(1, 2))\n"


def test_body_without_its_indentation_gets_the_prompts() -> None:
    assert code("total = a + b\nreturn total", prompt=STUB) == (
        STUB + "    total = a + b\n    return total\n"
    )


@pytest.mark.parametrize("completion", ["I cannot do that.", "x = (", "", "# nothing"])
def test_prompt_alone_is_no_answer(completion: str) -> None:
    found = extract_program(f"\n\n{completion}\n", entry_point="add", prompt=STUB)
    assert found.status in (Extracted.SYNTAX_ERROR, Extracted.EMPTY)


def test_whole_function_keeps_what_the_prompt_brings_before_it() -> None:
    found = code(f"```python\n{FUNCTION}```", prompt=STUB)
    assert found == "from typing import List\n\n\ndef helper(x):\n    return x\n\n\n" + FUNCTION


def test_what_was_cut_off_is_never_made_to_look_whole() -> None:
    whole = f"import os\n\n\ndef first(x):\n    return x\n\n\n{FUNCTION}"
    for end in range(len(whole) + 1):
        found = extract_program(whole[:end], entry_point="add", is_cut_off=True)
        assert found.status in (Extracted.CUT_OFF, Extracted.EMPTY)
        assert found.code == ""


def test_branch_that_was_cut_off_is_not_dropped() -> None:
    text = "if FAST:\n    def add(a, b):\n        return a\nelse:\n    def add(a, b):\n        ret"
    assert status(text, is_cut_off=True) is Extracted.CUT_OFF


def test_function_that_was_whole_before_the_cut_counts() -> None:
    for rest in ("def more(x):\n    retu", "print(add(1", "# and"):
        assert code(f"{FUNCTION}\n{rest}", is_cut_off=True) == FUNCTION
    # The block ended, and only the prose behind it was cut.
    assert code(f"```python\n{FUNCTION}```\nThis is beca", is_cut_off=True) == FUNCTION


def test_cut_off_body_is_refused_and_a_whole_one_taken() -> None:
    assert status("    total = a + b\n    ret", prompt=STUB, is_cut_off=True) is Extracted.CUT_OFF
    assert code("    return a + b\n\n\ndef f(", prompt=STUB, is_cut_off=True).endswith(
        "    return a + b\n"
    )


def test_fence_that_has_no_end_is_whole_unless_cut_off() -> None:
    assert code(f"```python\n{FUNCTION}") == FUNCTION
    assert status(f"```python\n{FUNCTION}", is_cut_off=True) is Extracted.CUT_OFF


@pytest.mark.parametrize(
    ("completion", "expected"),
    [
        ("", Extracted.EMPTY),
        (" \n\n", Extracted.EMPTY),
        ("<think>done</think>", Extracted.EMPTY),
        (f"<think>I wonder {FUNCTION}", Extracted.UNFINISHED_REASONING),
        ("I cannot do that.", Extracted.NO_FUNCTION),
        ("def subtract(a, b):\n    return a - b\n", Extracted.NO_FUNCTION),
        (
            "class Solution:\n    def add(self, a, b):\n        return a + b\n",
            Extracted.NO_FUNCTION,
        ),
        ("def add(a, b):\n    return a +\n", Extracted.SYNTAX_ERROR),
    ],
)
def test_failures_have_names(completion: str, expected: Extracted) -> None:
    assert status(completion) is expected


def test_code_that_does_not_parse_is_kept_as_it_is() -> None:
    text = "def add(a, b):\n    return a +\n"
    assert extract_program(text, entry_point="add").code == text


def test_without_a_known_function_any_program_is_taken() -> None:
    assert code("print(1)", entry_point="") == "print(1)\n"
    assert code(f"So:\n```\n{FUNCTION}```", entry_point="") == FUNCTION


def test_answers_of_any_language_are_the_first_block_or_everything() -> None:
    assert extract_answer("SELECT 1;\n").code == "SELECT 1;"
    assert extract_answer("It is:\n```sql\nSELECT 1;\n```\nor\n```\nx\n```").code == "SELECT 1;"
    assert extract_answer("<think>a</think>\n    indented").code == "    indented"
    assert extract_answer("SELECT", is_cut_off=True).status is Extracted.CUT_OFF
    assert extract_answer("```sql\nSELECT\n```\nso", is_cut_off=True).status is Extracted.CODE
    assert extract_answer("<think>a").status is Extracted.UNFINISHED_REASONING
    assert extract_answer("").status is Extracted.EMPTY


def test_inline_backticks_are_no_fence() -> None:
    assert fenced_blocks("use ```x``` here") == []
    assert [block.text for block in fenced_blocks("```py\na\n```\nb\n```\nc")] == ["a\n", "c"]


def test_reasoning_blocks() -> None:
    assert strip_reasoning("a<think>b</think>c<thinking>d</thinking>e") == "ace"
    assert strip_reasoning("if a < think: pass") == "if a < think: pass"
    assert strip_reasoning("x</think>y") == "y"
    assert strip_reasoning("a<think>b") is None


@given(st.text(alphabet="def ad(),:\n\t `\"'#@x=1", max_size=80), st.booleans())
def test_whatever_comes_in_a_program_that_comes_out_parses(text: str, is_cut_off: bool) -> None:
    found = extract_program(text, entry_point="ad", is_cut_off=is_cut_off)
    if found.status is Extracted.CODE:
        tree = ast.parse(found.code)
        assert tree.body
        # Nothing is changed but margins: each line was there.
        lines = set(text.splitlines()) | set(textwrap.dedent(text).splitlines())
        assert set(found.code.splitlines()) <= lines | {""}
    elif found.status is not Extracted.SYNTAX_ERROR:
        assert found.code == ""
