"""Runs a tool over rows: in order, on all cores, and on from where an earlier run was stopped."""

from __future__ import annotations

import contextlib
import fcntl
import json
import multiprocessing
import os
import re
import shutil
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from tqdm.auto import tqdm

from ift_lightning.data.preparation import RecordSource
from ift_lightning.data.tool_files import Account, json_line, whole_file, write_json
from ift_lightning.errors import BadRowError, UserError
from ift_lightning.types import InstructionRecord, RawRow, RejectedRow, json_fingerprint

CHUNK_ROWS = 256
_CHUNKS_AHEAD = 3  # per process: none waits, and memory stays bounded

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True)
class ToolRow:
    """What a tool makes of a row."""

    row: dict[str, Any]
    is_changed: bool
    counts: Counter[str] = field(default_factory=Counter)


RowTool = Callable[[RawRow, InstructionRecord], ToolRow]
"""Raises :class:`BadRowError` for a row that it refuses; has to be picklable."""

Event = tuple[RawRow, InstructionRecord] | RejectedRow


def map_chunks(
    function: Callable[[list[ItemT]], ResultT],
    items: Iterable[ItemT],
    *,
    num_workers: int,
    chunk_size: int = CHUNK_ROWS,
) -> Generator[ResultT, None, None]:
    """Yield ``function(chunk)`` of every chunk, in order.

    Args:
        function: Picklable, where there are several processes.
        items: Read in the calling process, a bounded number ahead.
        num_workers: Processes; 1 does the work in the calling process.
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
        initializer=_set_function,
        initargs=(function,),
    )
    pending: deque[Future[ResultT]] = deque()
    try:
        while chunk or pending:
            while chunk and len(pending) < num_workers * _CHUNKS_AHEAD:
                pending.append(pool.submit(_call_function, chunk))
                chunk = list(islice(source, chunk_size))
            yield pending.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


# A process is given the function once: a tokenizer in it would be slow to send with every chunk.
_function: Callable[[list[Any]], Any] | None = None


def _set_function(function: Callable[[list[Any]], Any]) -> None:
    global _function
    _function = function


def _call_function(chunk: list[Any]) -> Any:
    assert _function is not None
    return _function(chunk)


def default_workers() -> int:
    """Return how many processes this one may keep busy."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@dataclass(frozen=True, slots=True)
class _Done:
    """A chunk after the tool, as it is written."""

    lines: bytes
    rejected: bytes
    account: Account


def _apply(tool: RowTool, events: list[Event]) -> _Done:
    lines, rejected, account = [], [], Account(num_rows=len(events))
    for event in events:
        bad = event if isinstance(event, RejectedRow) else None
        if not isinstance(event, RejectedRow):
            raw, record = event
            try:
                made = tool(raw, record)
                lines.append(json_line(made.row))
            except BadRowError as error:
                bad = RejectedRow(raw.location, str(error), error.field, dict(raw.values))
            else:
                account.counts.update(made.counts)
                if made.is_changed:
                    account.num_changed += 1
                else:
                    account.num_unchanged += 1
        if bad is not None:
            rejected.append(json_line(bad.to_json()))
            account.num_rejected += 1
            account.rejected[reason_kind(bad.reason)] += 1
    return _Done("".join(lines).encode(), "".join(rejected).encode(), account)


def reason_kind(reason: str) -> str:
    """Return a reason without what differs from row to row, to count by."""
    return re.sub(r"\d+", "N", re.split(r"[;(]| was already used", reason)[0]).strip()[:100]


def read_events(source: RecordSource) -> Iterator[Event]:
    """Yield the rows of a source and those that cannot be used, in the order of reading."""
    bad: list[RejectedRow] = []
    for item in source.records(bad.append):
        yield from bad
        bad.clear()
        yield item
    yield from bad


class RowRun:
    """Rows that a tool has gone through, in a hidden folder until they are all there.

    A run that was stopped leaves the folder; the next one with the same key goes on behind the
    last whole chunk. Rows are read again, since ids have to stay unique, but not worked on again.

    Args:
        folder: Hidden folder of this output.
        key: Everything that decides what comes out; another key starts over.

    Attributes:
        output: Rows made so far.
        rejected: Rows left out so far.
        account: What became of them.
        num_resumed: Rows that an earlier run had done.
    """

    def __init__(self, folder: Path, key: Any) -> None:
        self.folder = folder
        self.output = folder / "rows.jsonl"
        self.rejected = folder / "rejected.jsonl"
        self._state = folder / "state.json"
        self._key = json_fingerprint(key)
        self.account = Account()
        self.num_resumed = 0

    def run(
        self,
        source: RecordSource,
        tool: RowTool,
        *,
        num_workers: int = 1,
        progress_bar: bool = True,
        title: str = "rows",
    ) -> None:
        """Go through all rows.

        Args:
            source: Rows.
            tool: What is done to each.
            num_workers: Processes.
            progress_bar: Show one.
            title: Of the progress bar.

        Raises:
            UserError: The source cannot be read, or another process is writing this output.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._locked():
            self._resume()
            events = read_events(source)
            for _ in range(self.num_resumed):
                next(events, None)
            with (
                self.output.open("ab") as output,
                self.rejected.open("ab") as rejected,
                tqdm(
                    desc=title, unit=" rows", initial=self.num_resumed, disable=not progress_bar
                ) as bar,
                contextlib.closing(
                    map_chunks(partial(_apply, tool), events, num_workers=num_workers)
                ) as chunks,
            ):
                for done in chunks:
                    output.write(done.lines)
                    rejected.write(done.rejected)
                    output.flush()
                    rejected.flush()
                    self.account.add(done.account)
                    self._save(output.tell(), rejected.tell())
                    bar.update(done.account.num_rows)
                for file in (output, rejected):
                    os.fsync(file.fileno())

    def remove(self) -> None:
        """Remove the hidden folder, once its files are where they belong."""
        shutil.rmtree(self.folder, ignore_errors=True)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with (self.folder / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(
                    f"another process is writing this output (it holds {self.folder}); wait for it"
                ) from None
            yield

    def _resume(self) -> None:
        try:
            state = json.loads(self._state.read_text(encoding="utf-8"))
            sizes = {self.output: state["output"], self.rejected: state["rejected"]}
            is_usable = state["key"] == self._key and all(
                path.stat().st_size >= size for path, size in sizes.items()
            )
            account = Account.from_json(state["account"])
        except (OSError, ValueError, KeyError, TypeError):
            is_usable = False
        if not is_usable:
            for path in (self.output, self.rejected, self._state):
                path.unlink(missing_ok=True)
            return
        for path, size in sizes.items():
            os.truncate(path, size)
        self.account, self.num_resumed = account, account.num_rows

    def _save(self, output_bytes: int, rejected_bytes: int) -> None:
        state = {
            "key": self._key,
            "output": output_bytes,
            "rejected": rejected_bytes,
            "account": self.account.to_json(),
        }
        hidden = self._state.with_suffix(".new")
        hidden.write_text(json.dumps(state), encoding="utf-8")
        hidden.replace(self._state)


def finish(
    run: RowRun, output: Path, rejected: Path, report: Path, facts: dict[str, Any]
) -> dict[str, Any]:
    """Put the files of a run where they belong, the output last, and return the report.

    Args:
        run: A run that went through all rows.
        output: Where the rows go.
        rejected: Where the rows that were left out go; nothing is written if there are none.
        report: Where the report goes.
        facts: Further entries of the report.

    Raises:
        UserError: No row could be used.
    """
    account = run.account
    rejected.unlink(missing_ok=True)
    if account.num_rejected:
        with whole_file(rejected) as file:
            file.write(run.rejected.read_text(encoding="utf-8"))
    entries = {**facts, **account.to_json()}
    write_json(report, entries)
    if account.num_rejected == account.num_rows:
        run.remove()
        reason = next(iter(account.rejected), "there are none")
        raise UserError(f"no row can be used ({reason}); all of them are in {rejected}")
    run.output.replace(output)
    run.remove()
    return entries
