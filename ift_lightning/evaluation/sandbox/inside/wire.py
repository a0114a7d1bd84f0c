"""Values as JSON with their Python types kept, and frames on a pipe.

A candidate may put anything at all on its pipe, so the reading side builds plain data only and
never runs a method of what it read. A subclass of a built-in type is sent as the content of that
type (read through the built-in's own methods): an ``__eq__`` of its own does not travel.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable

# Bound now, so that a program which replaces it changes nothing here.
from os import write as _write
from typing import Any

MAX_DEPTH = 100  # of nested containers; deeper (or cyclic) values are sent as opaque
_JSON_INTEGERS = 1 << 53
_HEADER_BYTES = 4
_MAX_COLLISIONS = 1000  # of hashes in one set or dictionary


class WireError(ValueError):
    """What came over the pipe is not a value or a frame."""


class Opaque:
    """A value that is not plain data: only its type's name and its truth are known here.

    It is equal to nothing, itself included.
    """

    def __init__(self, type_name: str, truth: bool = True) -> None:
        self.type_name = type_name
        self.truth = truth

    def __bool__(self) -> bool:
        return self.truth

    def __eq__(self, other: object) -> bool:
        return False

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<{self.type_name} object>"


def encode(value: Any, opaque: Callable[[Any], Any] | None = None, depth: int = 0) -> Any:
    """Return ``value`` as JSON; what is no plain data becomes what ``opaque`` makes of it.

    By default that is a marker with the name of its type.
    """
    if value is None or value is True or value is False:
        return value
    if depth > MAX_DEPTH:
        return {"o": ["value nested too deeply", True]}
    kind = type(value)
    mro = kind.__mro__
    if str in mro:
        return str.__str__(value) if kind is not str else value
    if int in mro:
        number = int.__int__(value)
        return number if -_JSON_INTEGERS < number < _JSON_INTEGERS else {"i": hex(number)}
    if float in mro:
        return float.__float__(value)
    if complex in mro:
        return {"c": [value.real, value.imag]}
    for container, tag in ((tuple, "t"), (set, "s"), (frozenset, "fs")):
        if container in mro:
            return {tag: [encode(item, opaque, depth + 1) for item in container.__iter__(value)]}
    if list in mro:
        return [encode(item, opaque, depth + 1) for item in list.__iter__(value)]
    if dict in mro:
        pairs = dict.items(value)
        return {"d": [[encode(part, opaque, depth + 1) for part in pair] for pair in pairs]}
    if bytes in mro:
        return {"b": bytes.hex(value)}
    if bytearray in mro:
        return {"ba": bytearray.hex(value)}
    if kind is range:
        return {"r": [encode(part) for part in (value.start, value.stop, value.step)]}
    return opaque(value) if opaque else opaque_marker(value)


def opaque_marker(value: Any) -> Any:
    return {"o": [type(value).__name__[:100], _truth(value)]}


def _truth(value: Any) -> bool:
    try:
        return bool(value)
    except Exception:
        return False


def decode(encoded: Any, special: Callable[[str, Any], Any] | None = None, depth: int = 0) -> Any:
    """Return the value that :func:`encode` wrote, made of built-in types and :class:`Opaque`.

    ``special`` is asked for the value of a tag that is not known here.
    """
    if encoded is None or isinstance(encoded, bool | int | float | str):
        return encoded
    if depth > MAX_DEPTH + 1:
        raise WireError("a value is nested too deeply")
    if isinstance(encoded, list):
        return [decode(item, special, depth + 1) for item in encoded]
    if not isinstance(encoded, dict) or len(encoded) != 1:
        raise WireError("not a value")
    tag, body = next(iter(encoded.items()))
    try:
        return _decode_tagged(tag, body, special, depth)
    except WireError:
        raise
    except (TypeError, ValueError, AttributeError, OverflowError, KeyError, IndexError) as error:
        raise WireError(f"not a value: {error}") from error


def _decode_tagged(
    tag: str, body: Any, special: Callable[[str, Any], Any] | None, depth: int
) -> Any:
    if tag == "i":
        return int(body, 16)
    if tag == "c":
        return complex(float(body[0]), float(body[1]))
    if tag == "b":
        return bytes.fromhex(body)
    if tag == "ba":
        return bytearray.fromhex(body)
    if tag == "d":
        pairs = [
            (decode(key, special, depth + 1), decode(item, special, depth + 1))
            for key, item in body
        ]
        _check_hashes([key for key, _ in pairs])
        return dict(pairs)
    if tag == "r":
        return range(*[decode(part) for part in body])
    if special is not None and tag in ("o", "callback", "handle"):
        return special(tag, body)
    if tag == "o":
        return Opaque(str(body[0])[:100], bool(body[1]))
    containers: dict[str, Any] = {"t": tuple, "s": set, "fs": frozenset}
    if tag in containers:
        items = [decode(item, special, depth + 1) for item in body]
        if tag != "t":
            _check_hashes(items)
        return containers[tag](items)
    raise WireError(f"not a value: unknown tag {tag[:20]!r}")


def _check_hashes(items: list[Any]) -> None:
    """Refuse items made to collide: a set of 50,000 of them keeps the reader busy for a minute."""
    if len(items) > _MAX_COLLISIONS:
        hashes = sorted(map(hash, items))
        for first, last in zip(hashes, hashes[_MAX_COLLISIONS:], strict=False):
            if first == last:
                raise WireError("too many items with the same hash")


def dump(message: Any) -> bytes:
    """Return a JSON message as bytes."""
    return json.dumps(message, separators=(",", ":")).encode("ascii")


def load(data: bytes) -> Any:
    """Return the JSON message in ``data``; WireError where it is none."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise WireError(f"not a message: {type(error).__name__}") from error


def frame(payload: bytes) -> bytes:
    """Return ``payload`` with its length in front."""
    return len(payload).to_bytes(_HEADER_BYTES, "big") + payload


def write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[_write(descriptor, view) :]


def read_exactly(descriptor: int, num_bytes: int) -> bytes:
    """Return ``num_bytes`` bytes; EOFError where the other side closed before."""
    parts = []
    while num_bytes:
        part = os.read(descriptor, min(num_bytes, 1 << 20))
        if not part:
            raise EOFError
        parts.append(part)
        num_bytes -= len(part)
    return b"".join(parts)


def read_frame(descriptor: int) -> bytes:
    """Return the payload of the next frame; EOFError where there is none."""
    length = int.from_bytes(read_exactly(descriptor, _HEADER_BYTES), "big")
    return read_exactly(descriptor, length)


def split_frames(data: bytes) -> list[bytes]:
    """Return the payloads of all whole frames in ``data``; an unfinished last one is left out."""
    frames, position = [], 0
    while position + _HEADER_BYTES <= len(data):
        start = position + _HEADER_BYTES
        end = start + int.from_bytes(data[position:start], "big")
        if end > len(data):
            break
        frames.append(data[start:end])
        position = end
    return frames
