"""Rows: which texts are code, whose language it is, what happens where something fails."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import pytest

from ift_lightning.data.comments import (
    StripOptions,
    StripStatus,
    canonical_language,
    records,
    strip_record,
    strip_records,
)
from ift_lightning.data.comments.fences import split_fences
from ift_lightning.data.comments.guessing import guess_language
from ift_lightning.data.comments.outcome import StrippedCode
from ift_lightning.types import InstructionRecord, Message

ROW = InstructionRecord(
    id="r",
    instruction="x = 1  # asked about",
    input="y = 2  # c\n",
    output="z = 3  # c\n",
    reasoning={"simple": "```python\nx = 1  # c\n```"},
    language="python",
    category="c",
    entry_point="f",
    tests=("assert f()  # c",),
)


def test_code_is_stripped_and_all_else_stays() -> None:
    outcome = strip_record(ROW)
    assert outcome.record == dataclasses.replace(ROW, input="y = 2\n", output="z = 3\n")
    assert outcome.status is StripStatus.CHANGED
    assert outcome.counts == {
        "piece:changed": 2,
        "language:python (row)": 2,
        "removed:comment": 2,
    }


def test_chat_and_fences() -> None:
    turns = (
        Message("system", "x = 1  # c"),
        Message("user", "Why `# x`?\n```js\nf(); // c\n```\n# Not code"),
        Message("assistant", "Since:\n\n1. so\n   ```py\n   x = 1  # c\n\n   # d\n   ```\n# End"),
    )
    outcome = strip_record(InstructionRecord(id="r", messages=turns))
    assert outcome.record.messages == (
        turns[0],
        Message("user", "Why `# x`?\n```js\nf();\n```\n# Not code"),
        Message("assistant", "Since:\n\n1. so\n   ```py\n   x = 1\n   ```\n# End"),
    )
    assert [(piece.where, piece.language_source) for piece in outcome.pieces] == [
        ("messages[1], fenced block 1", "fence"),
        ("messages[2], fenced block 1", "fence"),
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("```\nx = 1  # c\n```\n", "```\nx = 1\n```\n"),  # the row's language
        ("```output\n# 1\n```\n", None),
        ("```yaml\na: 1 # c\n```\n", None),
        ("```\n# heading\n```\n", None),
        ("~~~python\nx = 1  # c\n~~~", "~~~python\nx = 1\n~~~"),
        ("````md\n```python\nx = 1  # c\n```\n````\n", None),
        ("````py\ns = '''\n```\n'''\nx = 1  # c\n````\n",
         "````py\ns = '''\n```\n'''\nx = 1\n````\n"),
        ("```python\nx = 1  # c", "```python\nx = 1"),  # never closed
        ("```python\nx = 1  # c\r\n```\r\n", "```python\nx = 1\r\n```\r\n"),
        ("> ```python\n> x = 1  # c\n> ```\n", "> ```python\n> x = 1\n> ```\n"),
        ("Use `x = 1  # c`.\n", None),
        ('def f():\n    """\n    ```\n    # no\n    ```\n    """\n    g()  # c\n',
         'def f():\n    """\n    ```\n    # no\n    ```\n    """\n    g()\n'),
    ],
)  # fmt: skip
def test_blocks(text: str, expected: str | None) -> None:
    row = InstructionRecord(id="r", output=text, language="python")
    assert strip_record(row).record.output == (text if expected is None else expected)


@pytest.mark.parametrize("text", ["", "a", "a\n```\nb\n```", "```\n", "```x\n\n```\n\n~~~\na\n"])
def test_passages_join_to_the_text(text: str) -> None:
    assert "".join(passage.text for passage in split_fences(text)) == text


def test_instructions_are_prose_but_for_fences() -> None:
    row = InstructionRecord(id="r", instruction="Mend:\n```c\nint x; // c\n```", language="c")
    assert strip_record(row).record.instruction == "Mend:\n```c\nint x;\n```"
    assert strip_record(dataclasses.replace(row, instruction="f(); // c")).record.instruction


@pytest.mark.parametrize(
    ("name", "language"),
    [("C++", "cpp"), ("js", "javascript"), ("Py", "python"), ("golang", "go"), ("c#", "csharp"),
     (" Bash ", "shell"), ("rs", "rust"), ("kotlin", None), ("", None)],
)  # fmt: skip
def test_names_of_languages(name: str, language: str | None) -> None:
    assert canonical_language(name) == language


def test_what_cannot_be_stripped_comes_back_as_it_was() -> None:
    cases = {
        StripStatus.UNKNOWN_LANGUAGE: ("fun main() {} // c", "kotlin"),
        StripStatus.NOT_PARSABLE: ("class { // c", "java"),
        StripStatus.UNCHANGED: ("int x;", "java"),
    }
    for status, (code, language) in cases.items():
        row = InstructionRecord(id="r", output=code, language=language)
        outcome = strip_record(row)
        assert (outcome.record, outcome.status) == (row, status)
        assert bool(outcome.reason) == (status is not StripStatus.UNCHANGED)
    assert (
        "kotlin" in strip_record(InstructionRecord("r", output="x // c", language="kotlin")).reason
    )


def test_one_failed_proof_leaves_the_whole_row(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails_on_z(language: str, code: str, **options: bool) -> StrippedCode:
        if "z" in code:
            return StrippedCode(code, StripStatus.PROOF_FAILED, "no")
        return StrippedCode("gone", StripStatus.CHANGED)

    monkeypatch.setattr(records, "strip_code", fails_on_z)
    outcome = strip_record(ROW)
    assert (outcome.record, outcome.status) == (ROW, StripStatus.PROOF_FAILED)
    assert outcome.reason == "output: no"


def test_a_piece_that_does_not_parse_leaves_the_others() -> None:
    row = dataclasses.replace(ROW, input="def f(: # c\n")
    outcome = strip_record(row)
    assert (outcome.record.input, outcome.record.output) == (row.input, "z = 3\n")
    assert outcome.status is StripStatus.CHANGED
    assert outcome.reason.startswith("input: not valid")


def test_code_to_translate_is_in_another_language() -> None:
    row = InstructionRecord(
        "r",
        input="#include <stdio.h>\nint main() { return 0; } // c\n",
        output="x = 1\n",
        language="python",
    )
    outcome = strip_record(row)
    assert outcome.record.input == "#include <stdio.h>\nint main() { return 0; }\n"
    assert outcome.pieces[0].language_source == "guess: signs in the code"


GUESSES = [
    ("def f():\n    return 1  # c\n", "", "python"),
    ("print(1)  # c\n", "", "python"),
    ("public class A { public static void main(String[] a) {} } // c", "", "java"),
    ("console.log(1); // c", "", "javascript"),
    ("#include <iostream>\nint main() {} // c", "", "cpp"),
    ("#include <stdio.h>\nint main() {} // c", "", "c"),
    ("<?php echo 1; // c", "", "php"),
    ("#!/bin/bash\nls # c\n", "", "shell"),
    ("SELECT a FROM b; -- c\n", "", "sql"),
    ("<div><!-- c --></div>", "", "html"),
    ("a { color: red; /* c */ }", "", "css"),
    ("package main\nfunc main() {} // c\n", "", "go"),
    ("fn main() {} // c", "", "rust"),
    ("puts 1 # c", "Write it in Ruby.", "ruby"),
    ("int x = 1; // c", "Write a Java program.", "java"),
    ("int x = 1; // c", "Write a C program.", "c"),
    # Not certain, so not guessed:
    ("int x = 1; // c", "", None),
    ("x = 1  # c", "", None),
    ("int x = 1; // c", "Is it Java or C++?", None),
    ("console.log(1); // c", "Write PHP.", None),
    ("Use a // b in Python.", "Python?", None),
    ("# Title", "Python?", None),
    ("def f(: # c", "Python?", None),
    ("The C language // is old", "C?", None),
]


@pytest.mark.parametrize(("code", "request_text", "language"), GUESSES)
def test_guesses(code: str, request_text: str, language: str | None) -> None:
    guess = guess_language(code, request_text)
    assert (guess.language if guess else None) == language


def test_guesses_are_recorded_and_can_be_switched_off() -> None:
    row = InstructionRecord("r", instruction="In Ruby?", output="puts 1 # c")
    outcome = strip_record(row)
    assert outcome.record.output == "puts 1"
    assert outcome.pieces[0].language_source == "guess: named in the request"
    assert outcome.counts["language:ruby (guess)"] == 1
    without = strip_record(row, StripOptions(guess_language=False))
    assert (without.record, without.status) == (row, StripStatus.UNKNOWN_LANGUAGE)


def test_rows_about_comments_are_counted() -> None:
    row = InstructionRecord("r", "Add comments.", output="x = 1  # one", language="python")
    assert strip_record(row).counts["row:asks_about_comments"] == 1


def test_docstrings_are_an_option() -> None:
    row = InstructionRecord("r", output='def f():\n    """d"""\n', language="python")
    assert strip_record(row).record == row
    stripped = strip_record(row, StripOptions(strip_docstrings=True)).record
    assert stripped.output == "def f():\n    pass\n"


@pytest.mark.parametrize("num_workers", [1, 2])
def test_many_rows_keep_their_order(num_workers: int) -> None:
    rows = [dataclasses.replace(ROW, id=str(i), output=f"x = {i}  # c") for i in range(23)]
    taken = []

    def reading() -> Iterator[InstructionRecord]:
        for row in rows:
            taken.append(row.id)
            yield row

    outcomes = strip_records(reading(), num_workers=num_workers, chunk_size=2)
    first = next(outcomes)
    assert first.record.output == "x = 0"
    assert len(taken) < len(rows)  # not all rows are read at once
    rest = list(outcomes)
    assert [one.record.output for one in rest] == [f"x = {i}" for i in range(1, 23)]
    assert [one.record.id for one in rest] == [str(i) for i in range(1, 23)]


def test_worker_counts_are_checked() -> None:
    with pytest.raises(ValueError, match="1 at least"):
        strip_records([], num_workers=0)
    assert list(strip_records([], num_workers=2)) == []
