"""Pretraining text: valid code, no held-out composition, no instruction."""

from __future__ import annotations

import ast
import re

import pytest

from ift_lightning.data.drills import generate_drills, generate_pretraining_texts, pretraining
from ift_lightning.data.drills.composition import composition_names, split_of


@pytest.fixture
def sampled(monkeypatch) -> list:
    """The compositions that are drawn from here on."""
    seen: list = []
    sample = pretraining.sample_composition

    def record(*arguments):
        seen.append(sample(*arguments))
        return seen[-1]

    monkeypatch.setattr(pretraining, "sample_composition", record)
    return seen


def test_no_held_out_composition_is_sampled(sampled) -> None:
    assert len(list(generate_pretraining_texts(500))) == 500
    assert len(sampled) >= 500
    assert {split_of(composition_names(steps)) for steps in sampled} == {"train"}


def test_texts_hold_a_function_that_parses_or_are_a_catalogue() -> None:
    num_catalogues = 0
    for text in generate_pretraining_texts(500, seed=2):
        match = re.search(r"^def \w+\(\w+\):\n", text, re.MULTILINE)
        if match is None:
            num_catalogues += 1
            continue
        start = match.start()
        if "\n---\n" not in text[start:] and "\ndef " not in text[start:]:
            assert isinstance(ast.parse(text[start:]).body[-1], ast.FunctionDef)
        assert text.endswith("\n")
    assert 70 < num_catalogues < 130  # a fifth of the texts


def test_no_text_has_the_words_of_an_instruction() -> None:
    pretraining_text = "\n".join(generate_pretraining_texts(3000))
    for marker in ("###", "Instruction", "Response", "Write a", "Implement", "TODO", "Fix the"):
        assert marker not in pretraining_text
    instructions = {record.instruction for record in generate_drills("train", 500)}
    assert not any(instruction in pretraining_text for instruction in instructions)


def test_max_steps_limits_the_length(sampled) -> None:
    assert len(list(generate_pretraining_texts(200, max_steps=2))) == 200
    assert {len(steps) for steps in sampled} == {1, 2}
    with pytest.raises(ValueError, match="max_steps"):
        next(generate_pretraining_texts(1, max_steps=6))


def test_same_seed_same_texts_and_more_texts_only_add() -> None:
    short = list(generate_pretraining_texts(50, seed=4))
    assert list(generate_pretraining_texts(100, seed=4))[:50] == short
    assert list(generate_pretraining_texts(50, seed=5)) != short
