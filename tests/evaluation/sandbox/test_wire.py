"""Values cross the wall with their exact types, and nothing else crosses."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ift_lightning.evaluation.sandbox.expectations import same
from ift_lightning.evaluation.sandbox.inside import wire

ATOMS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False)
    | st.text(st.characters()) | st.binary() | st.complex_numbers(allow_nan=False)
)  # fmt: skip
HASHABLE = st.none() | st.booleans() | st.integers() | st.text() | st.binary()
VALUES = st.recursive(
    ATOMS,
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.sets(HASHABLE)
        | st.frozensets(HASHABLE)
        | st.dictionaries(HASHABLE, inner)
    ),
    max_leaves=20,
)


def there_and_back(value):
    return wire.decode(json.loads(json.dumps(wire.encode(value))))


@given(VALUES)
def test_values_come_back_the_same(value) -> None:
    assert same(there_and_back(value), value, lambda one, other: one == other)


def test_unusual_values() -> None:
    for value in (10**5000, -(2**70), range(3, 9, 2), bytearray(b"\0"), "\ud800"):
        back = there_and_back(value)
        assert type(back) is type(value) and back == value


def test_not_a_number() -> None:
    assert math.isnan(there_and_back(math.nan))
    assert there_and_back(-math.inf) == -math.inf


def test_objects_become_a_name_that_equals_nothing() -> None:
    class Always(int):
        def __eq__(self, other):
            return True

        __hash__ = int.__hash__

    back = there_and_back([Always(3), len, Always])
    assert all(isinstance(item, wire.Opaque) for item in back)
    assert back[0] != 3 and back[0] != back[0]
    assert back[0].type_name == "Always"


def test_too_deep_or_too_large() -> None:
    value: list = []
    for _ in range(500):
        value = [value]
    with pytest.raises(wire.TooLarge):
        wire.encode(value)


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        ["z", 1],
        ["i", "x"],
        ["l", 3],
        ["d", [[1]]],
        ["u", "zz"],
        ["s", [["l", []]]],
        ["f", 1],
    ],
)
def test_forged_values_are_refused(data) -> None:
    with pytest.raises(ValueError):
        wire.decode(data)
