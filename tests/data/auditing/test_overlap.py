"""Runs of words that a benchmark and a row share."""

from __future__ import annotations

from ift_lightning.data.auditing.overlap import NgramIndex, words
from ift_lightning.types import InstructionRecord

PROBLEM = "Check if in given list of numbers are any two numbers closer to each other than given"


def test_words() -> None:
    assert words("Return  x_1, (Y)!") == ["return", "x_1", "y"]
    assert words("判断 foo") == ["判", "断", "foo"]


def test_thirteen_words_are_an_overlap_and_twelve_are_not() -> None:
    index = NgramIndex([InstructionRecord("p/0", PROBLEM, output="return True")])
    found = PROBLEM.upper().split()
    assert index.problem_in("Please: " + ", ".join(found[3:16])) == "p/0"
    assert index.problem_in(" ".join(found[3:15])) is None
    # The same first and last word are not enough.
    assert index.problem_in(" ".join([found[0], *["x"] * 11, found[12]])) is None


def test_short_problems_are_counted() -> None:
    index = NgramIndex([InstructionRecord("p", "Add.", output="a + b")])
    assert (index.num_problems, index.num_too_short) == (1, 1)


def test_question_and_solution_are_not_joined() -> None:
    index = NgramIndex([InstructionRecord("p", "one two", output="three four")], size=3)
    assert index.problem_in("one two three four") is None
