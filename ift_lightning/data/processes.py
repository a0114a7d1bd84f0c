"""Work on many items in several processes, which end with the one that started them."""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from itertools import islice
from typing import Any, TypeVar

CHUNK_ROWS = 256
_CHUNKS_AHEAD = 3  # per process: none waits, and memory stays bounded

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")


def default_workers() -> int:
    """Return how many processes this one may keep busy."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def map_chunks(
    function: Callable[[list[ItemT]], ResultT],
    items: Iterable[ItemT],
    *,
    num_workers: int,
    chunk_size: int = CHUNK_ROWS,
) -> Generator[ResultT, None, None]:
    """Yield ``function(chunk)`` of every chunk, in order.

    Closing the generator ends the processes, and so does the end of the calling process, however
    it ends. Ctrl-C is the caller's alone to answer. The processes import the caller's main module
    anew, so a script needs its ``if __name__ == "__main__":``.

    Args:
        function: Picklable, where there are several processes.
        items: Read in the calling process, a bounded number ahead.
        num_workers: Processes; with 1, or where all items fit into one chunk, the work is done in
            the calling process.
        chunk_size: Items of a chunk.
    """
    source = iter(items)
    chunk = list(islice(source, chunk_size))
    if num_workers <= 1 or len(chunk) < chunk_size:
        while chunk:
            yield function(chunk)
            chunk = list(islice(source, chunk_size))
        return
    # A forked process would inherit the locks of whatever threads are running.
    pool = ProcessPoolExecutor(
        num_workers,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_start,
        initargs=(function,),
    )
    pending: deque[Future[ResultT]] = deque()
    try:
        while chunk or pending:
            while chunk and len(pending) < num_workers * _CHUNKS_AHEAD:
                with _interrupts_held_back():
                    pending.append(pool.submit(_call_function, chunk))
                chunk = list(islice(source, chunk_size))
            yield pending.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@contextlib.contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """Hold Ctrl-C back; processes that are started here never see it.

    The terminal sends it to them all, and each would print a traceback of its own.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


# A process is given the function once: a tokenizer in it would be slow to send with every chunk.
_function: Callable[[list[Any]], Any] | None = None


def _start(function: Callable[[list[Any]], Any]) -> None:
    global _function
    _function = function
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    # The pool's queue does not end with the parent: each process holds both of its ends.
    parent = multiprocessing.parent_process()
    assert parent is not None
    multiprocessing.connection.wait([parent.sentinel])
    os._exit(1)


def _call_function(chunk: list[Any]) -> Any:
    assert _function is not None
    return _function(chunk)
