"""Rows of CSV files, each with the line on which it starts."""

from __future__ import annotations

import csv
from collections.abc import Iterator

from ift_lightning.data.json_stream import ByteReader, OnBad, encoding_problem
from ift_lightning.errors import UserError
from ift_lightning.types import RawRow, RejectedRow, RowLocation

_MAX_CELL_CHARACTERS = 2**31 - 1  # the most that fits a C long everywhere


class _CsvLines:
    """The lines of a CSV file for ``csv.reader``, with the bytes and faults of the current row."""

    def __init__(self, stream: ByteReader) -> None:
        self._stream = stream
        self._number = 0
        self.row_lines: list[str] = []
        self.problem = ""

    def start_row(self) -> int:
        """Forget the row before, and return the 1-based line on which the next one starts."""
        self.row_lines.clear()
        self.problem = ""
        return self._number + 1

    def __iter__(self) -> _CsvLines:
        return self

    def __next__(self) -> str:
        data = self._stream.readline()
        if not data:
            raise StopIteration
        self._number += 1
        try:
            line = data.decode("utf-8")
        except UnicodeDecodeError as error:
            # The row must still end where it ends, so that the next one can be read.
            column = len(data[: error.start].decode("utf-8")) + 1
            self.problem = encoding_problem(data[error.start], self._number, column)
            line = data.decode("utf-8", "backslashreplace")
        self.row_lines.append(line)
        return line


def iter_csv_rows(
    stream: ByteReader, file: str, on_bad: OnBad, delimiter: str = ","
) -> Iterator[RawRow]:
    """Yield the rows of a CSV file under the names of its header; blank lines are passed over.

    Args:
        stream: The file, after its byte-order mark.
        file: Its name, for locations and messages.
        on_bad: Takes each row that is broken, not UTF-8, or not as long as the header.
        delimiter: What separates cells.

    Raises:
        UserError: The header cannot serve.
    """
    # The limit belongs to the process; it is only ever raised. Answers are longer than 128 kB.
    csv.field_size_limit(max(csv.field_size_limit(), _MAX_CELL_CHARACTERS))
    lines = _CsvLines(stream)
    # `strict`, or a quote that is never closed takes the rest of the file into one cell.
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    header: list[str] = []
    number = 0
    while True:
        line = lines.start_row()
        try:
            cells = next(reader, None)
        except csv.Error as error:
            cells = []
            last = line + len(lines.row_lines) - 1
            lines.problem = lines.problem or f"broken CSV in lines {line} to {last}: {error}"
        if cells is None:
            return
        if not cells and not lines.problem:
            continue  # a blank line
        if not header:
            header = _csv_header(cells, lines.problem, file, line)
            continue
        location = RowLocation(file, line, number)
        number += 1
        if not lines.problem and len(cells) != len(header):
            lines.problem = (
                f"the row has {len(cells)} cells but the header has {len(header)}; "
                "put cells that hold commas, quotes or line breaks in double quotes"
            )
        if lines.problem:
            on_bad(RejectedRow(location, lines.problem, row="".join(lines.row_lines)))
        else:
            yield RawRow(dict(zip(header, cells, strict=True)), location)


def _csv_header(cells: list[str], problem: str, file: str, line: int) -> list[str]:
    """Return the column names, or raise where they cannot serve."""
    doubles = sorted({cell for cell in cells if cells.count(cell) > 1})
    if doubles:
        problem = f"the header names a column twice: {', '.join(map(repr, doubles))}"
    elif len(cells) == 1 and (";" in cells[0] or "\t" in cells[0]):
        problem = "the header is one cell; separate cells by commas (by tabs in a .tsv file)"
    if problem:
        raise UserError(f"{file}:{line}: {problem}")
    return cells
