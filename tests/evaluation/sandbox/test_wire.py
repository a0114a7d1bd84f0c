"""Values keep their types on the way out of the sandbox, and hostile bytes do no harm."""

from __future__ import annotations

import collections
import enum
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ift_lightning.evaluation.sandbox.inside import wire

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters())  # lone surrogates included
    | st.binary()
    | st.complex_numbers(allow_nan=False)
)
KEYS = st.recursive(
    SCALARS, lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3), max_leaves=4
)
DATA = st.recursive(
    SCALARS | st.sets(KEYS, max_size=3) | st.binary().map(bytearray),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(KEYS, inner, max_size=4)
    ),
    max_leaves=20,
)


def there_and_back(value: Any) -> Any:
    return wire.decode(wire.load(wire.dump(wire.encode(value))))


def types_of(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return type(value), [types_of(item) for item in value]
    if isinstance(value, dict):
        return dict, {key: types_of(item) for key, item in value.items()}
    return type(value)


@given(DATA)
def test_values_come_back_as_they_were(value: Any) -> None:
    back = there_and_back(value)
    assert back == value and types_of(back) == types_of(value)
    assert (
        repr(sorted(map(repr, back))) == repr(sorted(map(repr, value)))
        if isinstance(value, set)
        else True
    )


def test_special_values() -> None:
    assert math.isnan(there_and_back(math.nan))
    assert there_and_back(-math.inf) == -math.inf
    assert math.copysign(1, there_and_back(-0.0)) == -1
    assert there_and_back(10**5000) == 10**5000
    assert there_and_back(range(1, 9, 3)) == range(1, 9, 3)


class Colour(enum.IntEnum):
    RED = 3


class Liar(list):  # type: ignore[type-arg]
    def __iter__(self) -> Any:
        return iter([9])

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]


class LiarInt(int):
    def __int__(self) -> int:
        return 4

    def __index__(self) -> int:
        return 4


def test_subclasses_travel_as_their_content() -> None:
    point = collections.namedtuple("point", "x y")(1, 2)
    assert there_and_back(point) == (1, 2) and type(there_and_back(point)) is tuple
    assert there_and_back(collections.Counter("aab")) == {"a": 2, "b": 1}
    assert there_and_back(Colour.RED) == 3 and type(there_and_back(Colour.RED)) is int
    assert there_and_back(Liar([1, 2])) == [1, 2] and type(there_and_back(Liar())) is list
    assert there_and_back(LiarInt(5)) == 5


def test_other_objects_are_opaque() -> None:
    for value in (object(), print, int, iter([1]), math):
        back = there_and_back([value])[0]
        assert isinstance(back, wire.Opaque) and back.type_name == type(value).__name__
        assert back != back and back != value and bool(back)
    endless: list[Any] = []
    endless.append(endless)
    text = repr(there_and_back(endless))
    assert "nested too deeply" in text


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"i": "zz"}',
        b'{"i": 5}',
        b'{"q": 1}',
        b'{"t": 5}',
        b'{"d": [[1]]}',
        b'{"d": [[[], 1]]}',
        b'{"s": [[]]}',
        b'{"r": [1, 2, 0]}',
        b'{"b": "x"}',
        b'{"c": []}',
        b'{"o": []}',
        b'{"a": 1, "b": 2}',
        b"{}",
        b'{"t":[' * 500 + b"1" + b"]}" * 500,
    ],
)
def test_hostile_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(wire.WireError):
        wire.decode(wire.load(data))


def test_colliding_items_are_refused() -> None:
    colliding = [number * ((1 << 61) - 1) for number in range(3000)]
    for tag, body in (("s", colliding), ("fs", colliding), ("d", [[n, 0] for n in colliding])):
        encoded = {tag: [[wire.encode(n[0]), 0] if tag == "d" else wire.encode(n) for n in body]}
        with pytest.raises(wire.WireError, match="same hash"):
            wire.decode(encoded)
    assert there_and_back(set(range(100_000))) == set(range(100_000))


def test_frames() -> None:
    data = wire.frame(b"one") + wire.frame(b"") + wire.frame(b"three")
    assert wire.split_frames(data) == [b"one", b"", b"three"]
    assert wire.split_frames(data[:-1]) == [b"one", b""]
    assert wire.split_frames(b"\xff\xff\xff\xff" + b"x" * 100) == []
