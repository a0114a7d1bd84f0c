"""JSON rows out of a byte stream, each with the line on which it starts.

Neither reader holds more than one row and one window of text, however long the file is.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable, Iterator
from typing import Any, NoReturn, Protocol

from ift_lightning.errors import UserError
from ift_lightning.types import RawRow, RejectedRow, RowLocation

OnBad = Callable[[RejectedRow], None]

WINDOW_BYTES = 1 << 16

# A cut value fails within this many characters of the cut: the longest pieces that the decoder
# takes as a whole, apart from strings, are "-Infinity" and "\ud83d\ude00".
_CUT_MARGIN = 16

_BLANKS = re.compile(r"[ \t\r\n]*")

# An object with one of these lists is a chat, and so a row; with another list it wraps the rows.
_CHAT_KEYS = ("messages", "conversations", "text")


class ByteReader(Protocol):
    """What the readers need of a binary file."""

    def read(self, size: int, /) -> bytes: ...

    def readline(self) -> bytes: ...


def type_name(value: Any) -> str:
    """Return what a value is, in the words of JSON: "a list", "null", "a number"."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    names: dict[type, str] = {
        str: "a string",
        int: "a number",
        float: "a number",
        dict: "an object",
        list: "a list",
        tuple: "a list",
    }
    return next(
        (name for kind, name in names.items() if isinstance(value, kind)),
        f"of type {type(value).__name__}",
    )


def encoding_problem(byte: int, line: int, column: int) -> str:
    """Return what to say of a byte that is not UTF-8, at a 1-based line and column."""
    return (
        f"byte 0x{byte:02X} at line {line}, column {column} is not valid UTF-8. Convert the file "
        "from the encoding it was saved in (GBK, latin-1, ...), for example: "
        "iconv -f GBK -t UTF-8 OLD > NEW"
    )


def iter_json_rows(
    stream: ByteReader, file: str, on_bad: OnBad, window_bytes: int = WINDOW_BYTES
) -> Iterator[RawRow]:
    """Yield the rows of a JSON file: the elements of its array, or the objects that follow
    one another.

    Args:
        stream: The file, after its byte-order mark.
        file: Its name, for locations and messages.
        on_bad: Takes an element that is no object or that holds ``NaN`` or ``Infinity``.
        window_bytes: How many bytes are read at a time.

    Raises:
        UserError: The JSON is broken; nothing after that place can be trusted.
    """
    window = _Window(stream, file, window_bytes)
    first = window.peek()
    if first == "[":
        yield from _array_rows(window, on_bad)
    elif first == "{":
        yield from _object_rows(window, on_bad)
    elif first:
        window.refuse("expected '[' (an array of rows) or '{' (a row)")


def iter_json_lines(stream: ByteReader, file: str, on_bad: OnBad) -> Iterator[RawRow]:
    """Yield the rows of a JSON Lines file; blank lines are passed over.

    Args:
        stream: The file, after its byte-order mark.
        file: Its name, for locations.
        on_bad: Takes each line that is not one JSON object in UTF-8; reading goes on after it.
    """
    decoder = _RowDecoder()
    number = 0
    # Not `for line in stream`: only "\n" ends a line, and U+2028 within a string does not.
    for line_number, data in enumerate(iter(stream.readline, b""), start=1):
        if not data.strip():
            continue
        location = RowLocation(file, line_number, number)
        number += 1
        try:
            text = data.decode("utf-8").rstrip("\r\n")
            value = decoder.decode(text)
        except UnicodeDecodeError as error:
            column = len(data[: error.start].decode("utf-8")) + 1
            reason = encoding_problem(data[error.start], line_number, column)
            on_bad(RejectedRow(location, reason, row=data.decode("utf-8", "backslashreplace")))
            continue
        except json.JSONDecodeError as error:
            reason = f"broken JSON at column {error.colno}: {error.msg}; {_line_hint(text, error)}"
            on_bad(RejectedRow(location, reason, row=text))
            continue
        except (RecursionError, ValueError) as error:
            on_bad(RejectedRow(location, f"JSON that cannot be read: {error}", row=text))
            continue
        row = _checked_row(value, decoder, location, on_bad)
        if row is not None:
            yield row


def _line_hint(text: str, error: json.JSONDecodeError) -> str:
    if text.lstrip().startswith("["):
        return "a file that is one JSON array must be named .json"
    if error.msg == "Extra data":
        return "a line must hold one object and nothing after it"
    return "each line must be one whole JSON object (a file of another layout is named .json)"


def _checked_row(
    value: Any, decoder: _RowDecoder, location: RowLocation, on_bad: OnBad
) -> RawRow | None:
    """Return the row, or hand it to ``on_bad`` and return None."""
    if not isinstance(value, dict):
        reason = f"the row is {type_name(value)}; it must be an object with named fields"
        on_bad(RejectedRow(location, reason, row=value))
        return None
    if decoder.constants:
        field, name = _find_constant(value, "") or (None, decoder.constants[0])
        place = f"'{field}' is " if field else "the row holds "
        reason = f"{place}{name}, which is not JSON: write null or a number instead"
        on_bad(RejectedRow(location, reason, field=field, row=value))
        return None
    return RawRow(value, location)


def _array_rows(window: _Window, on_bad: OnBad) -> Iterator[RawRow]:
    window.skip_character()  # "["
    number = 0
    closed = window.peek() == "]"
    while not closed:
        location = window.location(number)
        row = _checked_row(window.value(), window.decoder, location, on_bad)
        if row is not None:
            yield row
        number += 1
        mark = window.peek()
        if mark not in (",", "]"):
            window.refuse("expected ',' or ']' after a row" if mark else "the array has no end")
        closed = mark == "]"
        if not closed:
            window.skip_character()
            if window.peek() == "]":
                window.refuse("there is a comma after the last row")
    window.skip_character()
    if window.peek():
        window.refuse("there is text after the end of the array")


def _object_rows(window: _Window, on_bad: OnBad) -> Iterator[RawRow]:
    number = 0
    while mark := window.peek():
        if mark != "{":
            window.refuse("expected another row, '{...}', or the end of the file")
        location = window.location(number)
        value = window.value()
        if number == 0 and not window.peek():
            _refuse_wrapped_rows(value, location.file)
        row = _checked_row(value, window.decoder, location, on_bad)
        if row is not None:
            yield row
        number += 1


def _refuse_wrapped_rows(value: dict[str, Any], file: str) -> None:
    """Raise where the only object of a file is no row but holds the rows in a list."""
    for key, inner in value.items():
        is_list_of_rows = isinstance(inner, list) and inner and isinstance(inner[0], dict)
        # The raw defect form has a list of one {"subtype"} under "instruction".
        if is_list_of_rows and key not in (*_CHAT_KEYS, "instruction"):
            raise UserError(
                f"{file}: the rows are inside the field '{key}' of one object. Save that list by "
                f"itself, for example: jq '.[\"{key}\"]' OLD.json > NEW.json"
            )


class _Constant(str):
    """``NaN``, ``Infinity`` or ``-Infinity``, kept as a string so that it can be reported."""


def _find_constant(value: Any, path: str) -> tuple[str, str] | None:
    """Return the dotted path and the name of the first such constant."""
    if isinstance(value, _Constant):
        return path, str(value)
    items: list[tuple[str, Any]] = []
    if isinstance(value, dict):
        items = [(f"{path}.{key}" if path else key, inner) for key, inner in value.items()]
    elif isinstance(value, list):
        items = [(f"{path}[{i}]", inner) for i, inner in enumerate(value)]
    return next(filter(None, (_find_constant(inner, where) for where, inner in items)), None)


class _RowDecoder:
    """A JSON decoder that notes the constants which Python reads but JSON does not have."""

    def __init__(self) -> None:
        self.constants: list[str] = []  # of the value decoded last
        self._decoder = json.JSONDecoder(parse_constant=self._note)

    def _note(self, name: str) -> _Constant:
        self.constants.append(name)
        return _Constant(name)

    def decode(self, text: str) -> Any:
        self.constants.clear()
        return self._decoder.decode(text)

    def decode_at(self, text: str, position: int) -> tuple[Any, int]:
        """Return the value that starts at ``position``, and the position after it."""
        self.constants.clear()
        return self._decoder.raw_decode(text, position)


class _Window:
    """The part of a text that is being read: what was read is dropped, what is needed is added."""

    def __init__(self, stream: ByteReader, file: str, num_bytes: int) -> None:
        self.decoder = _RowDecoder()
        self._stream = stream
        self._file = file
        self._num_bytes = num_bytes
        self._utf8 = codecs.getincrementaldecoder("utf-8")()
        self._text = ""
        self._position = 0
        self._line = 1  # of the position, like the column
        self._column = 1
        self._at_end = False

    def location(self, row: int) -> RowLocation:
        return RowLocation(self._file, self._line, row)

    def peek(self) -> str:
        """Return the next character that is not blank, or "" at the end of the file."""
        while True:
            match = _BLANKS.match(self._text, self._position)
            assert match is not None  # the pattern matches the empty string
            self._advance(match.end())
            if self._position < len(self._text):
                return self._text[self._position]
            if self._at_end:
                return ""
            self._grow()

    def skip_character(self) -> None:
        self._advance(self._position + 1)

    def value(self) -> Any:
        """Return the JSON value that starts here and move behind it."""
        while True:
            try:
                value, end = self.decoder.decode_at(self._text, self._position)
            except json.JSONDecodeError as error:
                is_cut = error.msg.startswith("Unterminated string") or (
                    error.pos > len(self._text) - _CUT_MARGIN
                )
                if is_cut and not self._at_end:
                    self._grow()
                    continue
                self._advance(error.pos)
                self.refuse(f"{error.msg}; the file may be cut off" if is_cut else error.msg)
            except (RecursionError, ValueError) as error:
                self.refuse(str(error))
            # "1" may be the start of "12" or "1e5"; other values carry their own end.
            may_go_on = not isinstance(value, dict | list | str)
            if may_go_on and not self._at_end and end > len(self._text) - _CUT_MARGIN:
                self._grow()
                continue
            self._advance(end)
            return value

    def refuse(self, problem: str) -> NoReturn:
        raise UserError(
            f"{self._file}:{self._line}:{self._column}: broken JSON (column {self._column}): "
            f"{problem}. The rows after this place cannot be read: correct it, or keep one object "
            "a line in a .jsonl file, where a broken line costs only itself"
        )

    def _advance(self, position: int) -> None:
        num_lines = self._text.count("\n", self._position, position)
        if num_lines:
            self._line += num_lines
            self._column = position - self._text.rfind("\n", self._position, position)
        else:
            self._column += position - self._position
        self._position = position

    def _grow(self) -> None:
        # As many bytes again as were not enough, so that a long row is decoded a few times only.
        data = self._stream.read(max(self._num_bytes, len(self._text) - self._position))
        self._at_end = not data
        try:
            more = self._utf8.decode(data, final=self._at_end)
        except UnicodeDecodeError as error:
            self._text += error.object[: error.start].decode("utf-8")
            self._advance(len(self._text))
            problem = encoding_problem(error.object[error.start], self._line, self._column)
            raise UserError(f"{self._file}: {problem}") from error
        self._text = self._text[self._position :] + more
        self._position = 0
