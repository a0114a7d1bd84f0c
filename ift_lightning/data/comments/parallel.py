"""Stripping many rows on all cores."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial

from ift_lightning.data.comments.outcome import StripOptions, StripOutcome
from ift_lightning.data.comments.records import strip_record
from ift_lightning.data.processes import default_workers, map_chunks
from ift_lightning.types import InstructionRecord

_CHUNK = 128  # rows handed over at once


def strip_records(
    records: Iterable[InstructionRecord],
    options: StripOptions | None = None,
    *,
    num_workers: int | None = None,
    chunk_size: int = _CHUNK,
) -> Iterator[StripOutcome]:
    """Yield what :func:`strip_record` returns for each row, in the rows' order.

    Rows are read as results are taken, a bounded number of them ahead. Closing the iterator ends
    the processes. They import the caller's main module anew, so a script needs its
    ``if __name__ == "__main__":``.

    Args:
        records: Rows; read in the calling process.
        options: What to remove; None for the defaults.
        num_workers: Processes; None for one a core that this process may use. With 1, or where
            all rows fit into one chunk, the work is done in the calling process.
        chunk_size: Rows handed over at once.

    Raises:
        ValueError: ``num_workers`` or ``chunk_size`` is below 1.
    """
    if num_workers is None:
        num_workers = default_workers()
    if num_workers < 1 or chunk_size < 1:
        raise ValueError("num_workers and chunk_size have to be 1 at least")
    function = partial(_strip_chunk, options or StripOptions())
    return _outcomes(function, records, num_workers, chunk_size)


def _outcomes(
    function: partial[list[StripOutcome]],
    records: Iterable[InstructionRecord],
    num_workers: int,
    chunk_size: int,
) -> Iterator[StripOutcome]:
    for outcomes in map_chunks(function, records, num_workers=num_workers, chunk_size=chunk_size):
        yield from outcomes


def _strip_chunk(options: StripOptions, records: list[InstructionRecord]) -> list[StripOutcome]:
    return [strip_record(record, options) for record in records]
