"""The primitive operations and the compositions that are made of them."""

from __future__ import annotations

import copy
import random

import pytest

from ift_lightning.data.drills.composition import (
    OPERATIONS,
    bind,
    composition_names,
    sample_composition,
    split_of,
)
from ift_lightning.data.drills.inputs import ordinary_input
from ift_lightning.data.drills.operation import VALUE_TYPES
from ift_lightning.data.drills.rendering import build_function

_PYTHON_TYPES = {
    "ints": list, "words": list, "text": str, "number": int, "counts": dict, "flag": bool,
}  # fmt: skip
_EMPTY = {"ints": [], "words": [], "text": "", "number": 0, "counts": {}}


def test_there_are_enough_operations_and_their_names_are_unique() -> None:
    assert len(OPERATIONS) >= 60
    assert len({operation.name for operation in OPERATIONS}) == len(OPERATIONS)
    assert {operation.source for operation in OPERATIONS} == set(VALUE_TYPES) - {"flag"}


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_operation_keeps_its_types_and_both_forms_agree(operation) -> None:
    rng = random.Random(operation.name)
    assert len(operation.phrases) >= 2
    assert ("$m" in operation.expression) == bool(operation.m)
    for text in (operation.expression, operation.chinese, *operation.phrases):
        assert ("$k" in text) == bool(operation.k), text
    for _ in range(12):
        step = bind(operation, rng)
        values = [_EMPTY[operation.source], ordinary_input(operation.source, rng)]
        for value in values:
            before = copy.deepcopy(value)
            expected = step.function(value)
            assert value == before
            assert type(expected) is _PYTHON_TYPES[operation.target]
            if operation.loop:
                namespace: dict = {}
                code = build_function((step,), "looped", "given", rng, loop_share=1.0)
                assert "for " in code.source()
                exec(code.source(), namespace)
                assert namespace["looped"](value) == expected


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_sampled_compositions_are_well_typed_and_in_their_split(split: str) -> None:
    rng = random.Random(0)
    lengths = set()
    for _ in range(300):
        steps = sample_composition(rng, split, (1, 1, 1, 1, 1))
        assert split_of(composition_names(steps)) == split
        for step, following in zip(steps, steps[1:], strict=False):
            assert step.operation.target == following.operation.source
        lengths.add(len(steps))
    assert lengths == {1, 2, 3, 4, 5}


def test_held_out_splits_have_a_tenth_of_the_compositions_each() -> None:
    names = [operation.name for operation in OPERATIONS]
    splits = [split_of((first, second)) for first in names for second in names]
    assert splits.count("test") / len(splits) == pytest.approx(0.1, abs=0.01)
    assert splits.count("val") / len(splits) == pytest.approx(0.1, abs=0.01)
