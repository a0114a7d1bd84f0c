"""Functions cut off behind their docstring: the rest makes them whole, and right."""

from __future__ import annotations

import ast

import pytest

from ift_lightning.data.drills import generate_docstring_tasks
from ift_lightning.data.drills.composition import DRILLS_VERSION
from ift_lightning.data.drills.mutations import source_passes


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_instruction_and_output_make_a_function_that_passes(split: str) -> None:
    for record in generate_docstring_tasks(split, 100):
        source = record.instruction + record.output
        (function,) = ast.parse(source).body
        assert isinstance(function, ast.FunctionDef)
        assert function.name == record.entry_point
        assert ast.get_docstring(function)
        assert source_passes(source, record.entry_point, list(record.tests))
        # Without its body, the function returns nothing, which is no test's value.
        assert not source_passes(record.instruction, record.entry_point, list(record.tests))


def test_one_to_three_steps_and_more_records_only_add() -> None:
    records = list(generate_docstring_tasks("test", 200))
    assert {record.subtype for record in records} == {"1_step", "2_steps", "3_steps"}
    assert list(generate_docstring_tasks("test", 40)) == records[:40]
    assert records[0].id == f"{DRILLS_VERSION}-docstrings-0-test-000000"
    assert list(generate_docstring_tasks("test", 40, seed=1)) != records[:40]


def test_unknown_split() -> None:
    with pytest.raises(ValueError, match="tests"):
        list(generate_docstring_tasks("tests", 1))
