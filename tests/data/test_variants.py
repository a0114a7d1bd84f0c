"""Variants change what they say and nothing else."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from ift_lightning.data.variants import REVERSE_INSTRUCTION, VARIANTS, variant
from ift_lightning.errors import BadRowError, UserError
from ift_lightning.types import InstructionRecord, Message

RECORD = InstructionRecord(
    id="r",
    instruction="Name a colour.",
    input="warm ones",
    output="red\n",
    reasoning={"simple": "fire"},
    language="python",
    category="open_qa",
    subtype="s",
    entry_point="f",
    tests=("assert f()",),
)


def test_standard_is_the_record_itself() -> None:
    assert variant("standard")(RECORD) is RECORD


def test_reverse() -> None:
    # To the letter, with the blank at its end: files made elsewhere have to fit.
    assert REVERSE_INSTRUCTION == (
        "Use the Input below to create an instruction, which could have been used to generate "
        "the input using an LLM. "
    )
    assert variant("reverse")(RECORD) == InstructionRecord(
        id="r",
        instruction=REVERSE_INSTRUCTION,
        input="red\n",
        output="Name a colour.",
        language="python",
        category="open_qa",
        subtype="s",
    )


@pytest.mark.parametrize("field", ["instruction", "output"])
def test_reverse_needs_both_sides(field: str) -> None:
    blank: dict[str, Any] = {field: " \n"}
    with pytest.raises(BadRowError, match=f"non-empty '{field}'") as caught:
        variant("reverse")(dataclasses.replace(RECORD, **blank))
    assert caught.value.field == field


def test_reverse_refuses_chats() -> None:
    chat = InstructionRecord("r", messages=(Message("user", "q"), Message("assistant", "a")))
    with pytest.raises(BadRowError, match="not chats") as caught:
        variant("reverse")(chat)
    assert caught.value.field == "messages"


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_keeps_the_id(name: str) -> None:
    assert variant(name)(RECORD).id == "r"


def test_no_comments_strips_every_language_and_keeps_an_account() -> None:
    chosen = variant("no_comments")
    rows = [
        ("x = 1  # c", "python", "x = 1"),
        ("int x; // c", "C", "int x;"),
        ("val x = 1 // c", "kotlin", "val x = 1 // c"),
        ("x = 1 // c or # c", "", "x = 1 // c or # c"),
    ]
    for output, language, expected in rows:
        assert chosen(InstructionRecord("r", output=output, language=language)).output == expected
    assert chosen.counts["row:changed"] == chosen.counts["row:unknown_language"] == 2
    assert chosen.counts["removed:comment"] == 2
    assert variant("no_comments").counts == {}  # each has an account of its own
    assert chosen.key != variant("standard").key


def test_misspelt_variant() -> None:
    with pytest.raises(UserError, match="Did you mean 'no_comments'") as caught:
        variant("no_coments")
    assert "Valid: no_comments, reverse, standard" in str(caught.value)
