"""Plain values as JSON, with their exact types; objects of any other type become a name.

Used on both sides of the sandbox's wall. Decoding makes lists, dictionaries, numbers and strings,
and never calls anything that the other side chose.
"""

from __future__ import annotations

import math
import struct

MAX_DEPTH = 200
MAX_NODES = 1_000_000

_FLOATS = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
_CONTAINERS = {"l": list, "t": tuple, "s": set, "fs": frozenset}
_NAMES = {kind: name for name, kind in _CONTAINERS.items()}


class Opaque:
    """A value that is not data, such as a function; equal to nothing, itself included."""

    __slots__ = ("type_name",)

    def __init__(self, type_name):
        self.type_name = type_name

    def __repr__(self):
        return f"<{self.type_name} object>"

    def __eq__(self, other):
        return False

    __hash__ = object.__hash__


class TooLarge(ValueError):
    """A value is nested too deeply or has too many parts."""


def encode(value):
    """Return ``value`` as a JSON value: ``[tag, content]``."""
    return _encode(value, 0, [0])


def _encode(value, depth, count):
    count[0] += 1
    if depth > MAX_DEPTH or count[0] > MAX_NODES:
        raise TooLarge("the value is nested too deeply or too large")
    kind = type(value)  # a subclass may do anything, so it is not data
    if value is None:
        return ["n"]
    if kind is bool:
        return ["b", value]
    if kind is int:
        return ["i", hex(value)]
    if kind is float:
        return ["f", value.hex()] if math.isfinite(value) else ["f", str(value)]
    if kind is complex:
        return ["c", struct.pack("!dd", value.real, value.imag).hex()]
    if kind is str:
        return ["u", value.encode("utf-8", "surrogatepass").hex()] if not value.isascii() else [
            "a", value]  # fmt: skip
    if kind is bytes:
        return ["y", value.hex()]
    if kind is bytearray:
        return ["ya", bytes(value).hex()]
    if kind in _NAMES:
        return [_NAMES[kind], [_encode(item, depth + 1, count) for item in value]]
    if kind is dict:
        pairs = [
            [_encode(key, depth + 1, count), _encode(item, depth + 1, count)]
            for key, item in value.items()
        ]
        return ["d", pairs]
    if kind is range:
        return ["r", [hex(value.start), hex(value.stop), hex(value.step)]]
    return ["o", str(kind.__name__)[:100]]


def decode(data, depth=0):
    """Return the value that :func:`encode` was given.

    Raises:
        ValueError: ``data`` is nothing that ``encode`` returns.
    """
    try:
        return _decode(data, depth)
    except (TypeError, KeyError, IndexError, AttributeError, struct.error) as error:
        raise ValueError(f"not an encoded value: {error}") from None


def _decode(data, depth):
    if depth > MAX_DEPTH + 10:
        raise ValueError("nested too deeply")
    if type(data) is not list or not data:
        raise ValueError("not an encoded value")
    tag = data[0]
    if tag == "n":
        return None
    content = data[1]
    if tag in _CONTAINERS:
        if type(content) is not list:
            raise ValueError("not a list")
        return _CONTAINERS[tag](_decode(item, depth + 1) for item in content)
    if tag == "d":
        return {_decode(key, depth + 1): _decode(item, depth + 1) for key, item in content}
    if tag == "b":
        return bool(content)
    if tag == "i":
        return int(content, 16)
    if tag == "f":
        return _FLOATS[content] if content in _FLOATS else float.fromhex(content)
    if tag == "c":
        return complex(*struct.unpack("!dd", bytes.fromhex(content)))
    if tag == "a":
        return str(content)
    if tag == "u":
        return bytes.fromhex(content).decode("utf-8", "surrogatepass")
    if tag == "y":
        return bytes.fromhex(content)
    if tag == "ya":
        return bytearray.fromhex(content)
    if tag == "r":
        return range(*(int(part, 16) for part in content))
    if tag == "o":
        return Opaque(str(content)[:100])
    raise ValueError(f"unknown tag {tag!r}")
