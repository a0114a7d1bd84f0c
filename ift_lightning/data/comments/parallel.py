"""Stripping many rows on all cores."""

from __future__ import annotations

import multiprocessing
import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from itertools import islice

from ift_lightning.data.comments.outcome import StripOptions, StripOutcome
from ift_lightning.data.comments.records import strip_record
from ift_lightning.types import InstructionRecord

_CHUNK = 128  # rows handed over at once
_CHUNKS_AHEAD = 3  # per process: enough that none waits, and memory stays bounded


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
        num_workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
        num_workers = num_workers or os.cpu_count() or 1
    if num_workers < 1 or chunk_size < 1:
        raise ValueError("num_workers and chunk_size have to be 1 at least")
    chosen = options or StripOptions()
    return _outcomes(iter(records), chosen, num_workers, chunk_size)


def _outcomes(
    records: Iterator[InstructionRecord], options: StripOptions, num_workers: int, chunk_size: int
) -> Iterator[StripOutcome]:
    first = list(islice(records, chunk_size))
    if num_workers == 1 or len(first) < chunk_size:
        yield from _strip_chunk(first, options)
        for record in records:
            yield strip_record(record, options)
        return
    # Processes that are forked would inherit the locks of threads that torch has started.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(num_workers, mp_context=context)
    pending: deque[Future[list[StripOutcome]]] = deque()
    try:
        chunk = first
        while chunk or pending:
            while chunk and len(pending) < num_workers * _CHUNKS_AHEAD:
                pending.append(pool.submit(_strip_chunk, chunk, options))
                chunk = list(islice(records, chunk_size))
            yield from pending.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _strip_chunk(records: list[InstructionRecord], options: StripOptions) -> list[StripOutcome]:
    return [strip_record(record, options) for record in records]
