"""Asks a teacher about many rows at once, and hands the outcomes out in the rows' order."""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from queue import SimpleQueue

from ift_lightning.errors import BadRowError
from ift_lightning.teaching.exchange import (
    RequestFailedError,
    Teacher,
    TeacherAnswer,
    TeacherRequest,
    TeacherUnusableError,
)
from ift_lightning.teaching.journal import AnswerJournal
from ift_lightning.teaching.levels import ReasoningLevels
from ift_lightning.teaching.replies import BadReplyError
from ift_lightning.types import InstructionRecord, RawRow


@dataclass(slots=True)
class RowOutcome:
    """What became of a row. ``record`` is None where it failed, and ``problems`` then say why."""

    raw: RawRow
    record: InstructionRecord | None
    was_complete: bool = False  # nothing was asked
    problems: list[str] = field(default_factory=list)  # one for each bad answer, in order
    field: str | None = None  # of the row, where the row itself is the problem


@dataclass(slots=True)
class Usage:
    """Answers and tokens, of this run and of all runs that the journal remembers."""

    num_answers: int = 0
    num_prompt_tokens: int = 0
    num_completion_tokens: int = 0

    def add(self, answer: TeacherAnswer) -> None:
        self.num_answers += 1
        self.num_prompt_tokens += answer.num_prompt_tokens
        self.num_completion_tokens += answer.num_completion_tokens


@dataclass(slots=True)
class _Work:
    index: int
    raw: RawRow
    record: InstructionRecord
    request: TeacherRequest
    problems: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Result:
    """Of one request: an answer that was read, a bad one, or none."""

    record: InstructionRecord | None = None
    problem: str | None = None
    can_ask_again: bool = False
    server_is_down: bool = False
    has_new_answer: bool = False


class Generation:
    """One pass over rows.

    Args:
        task: Rows to requests, answers to rows.
        teacher: Answers.
        journal: Keeps every answer, and gives those of earlier runs.
        max_attempts: Times that a row is asked about while the answers are bad.
        max_failures_in_a_row: Requests without any answer, one after another, after which the
            server counts as gone.
        on_progress: Called with the number of rows that are done, whenever it has grown.

    Attributes:
        paid: What this run had answered.
        reused: What came from the journal.
        num_bad_answers: Answers that were of no use.
    """

    def __init__(
        self,
        task: ReasoningLevels,
        teacher: Teacher,
        journal: AnswerJournal,
        *,
        max_attempts: int = 3,
        max_failures_in_a_row: int = 5,
        on_progress: Callable[[int], None] | None = None,
    ) -> None:
        self.task = task
        self.teacher = teacher
        self.journal = journal
        self.max_attempts = max_attempts
        self.max_failures_in_a_row = max_failures_in_a_row
        self.on_progress = on_progress or (lambda num_done: None)
        self.paid = Usage()
        self.reused = Usage()
        self.num_bad_answers = 0
        self._failures_in_a_row = 0
        self._waiting: deque[_Work] = deque()
        self._tasks: SimpleQueue[list[_Work] | None] = SimpleQueue()
        self._results: SimpleQueue[tuple[list[_Work], list[_Result] | BaseException]]
        self._results = SimpleQueue()
        self._num_batches = 0  # that workers have
        self._num_running = 0  # rows in them
        self._workers: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._done: dict[int, RowOutcome] = {}
        self._num_done = 0

    def outcomes(
        self, rows: Iterable[tuple[RawRow, InstructionRecord]]
    ) -> Generator[RowOutcome, None, None]:
        """Yield the outcome of every row, in the order of the rows.

        However it ends, it waits for the answers that are on their way, so that what is paid for is
        in the journal; only a second Ctrl-C leaves them.

        Raises:
            TeacherUnusableError: The teacher cannot be asked. What it answered is in the journal.
        """
        numbered = enumerate(rows)
        num_active = self.teacher.num_workers * self.teacher.batch_size
        next_index = 0
        more = True
        self._start_workers()
        try:
            while more or self._num_active or self._done:
                while more and self._num_active < num_active and next_index not in self._done:
                    more = self._take(numbered)
                self._submit()
                while next_index in self._done:
                    yield self._done.pop(next_index)
                    next_index += 1
                if self._num_batches:
                    self._collect()
        finally:
            self._end_workers()

    @property
    def _num_active(self) -> int:
        """Rows that are asked about, or wait to be."""
        return len(self._waiting) + self._num_running

    def _start_workers(self) -> None:
        # Not a pool of the standard library, which the interpreter waits for at its end: a second
        # Ctrl-C has to leave a server that hangs.
        self._workers = [
            threading.Thread(target=self._serve, daemon=True)
            for _ in range(self.teacher.num_workers)
        ]
        for worker in self._workers:
            worker.start()

    def _serve(self) -> None:
        while (batch := self._tasks.get()) is not None:
            try:
                self._results.put((batch, self._work(batch)))
            except BaseException as error:  # it is raised where the results are collected
                self._results.put((batch, error))

    def _end_workers(self) -> None:
        self.teacher.stop()
        for _ in range(self.teacher.num_workers):
            self._tasks.put(None)
        if self._num_batches:
            print(
                f"\nending: waiting for {self._num_running} requests on their way, whose answers "
                "may be paid for; Ctrl-C leaves them",
                file=sys.stderr,
            )
        # By their ends, not by counting results: an interrupt may come between taking a result and
        # counting it.
        for worker in self._workers:
            worker.join()

    def _take(self, rows: Iterator[tuple[int, tuple[RawRow, InstructionRecord]]]) -> bool:
        """Begin the next row; return whether there was one."""
        item = next(rows, None)
        if item is None:
            return False
        index, (raw, record) = item
        if self.task.is_complete(record):
            self._finish(index, RowOutcome(raw, record, was_complete=True))
            return True
        try:
            request = self.task.request(record)
        except BadRowError as error:
            self._finish(index, RowOutcome(raw, None, problems=[str(error)], field=error.field))
            return True
        self._waiting.append(_Work(index, raw, record, request))
        return True

    def _submit(self) -> None:
        while self._waiting and self._num_batches < self.teacher.num_workers:
            size = min(self.teacher.batch_size, len(self._waiting))
            batch = [self._waiting.popleft() for _ in range(size)]
            self._num_batches += 1
            self._num_running += size
            self._tasks.put(batch)

    def _work(self, batch: list[_Work]) -> list[_Result]:
        """Answer and read a batch; runs in a worker thread."""
        keys = [work.request.fingerprint(self.teacher.key) for work in batch]
        answers: list[TeacherAnswer | RequestFailedError | None]
        answers = [self.journal.get(key) for key in keys]
        self._count(self.reused, answers)
        asked = [place for place, answer in enumerate(answers) if answer is None]
        if asked:
            new = self.teacher.answer([batch[place].request for place in asked])
            for place, reply in zip(asked, new, strict=True):
                answers[place] = reply
                if isinstance(reply, TeacherAnswer):
                    self.journal.add(keys[place], batch[place].request, reply)
            self._count(self.paid, new)
        results = []
        for place, (work, answer) in enumerate(zip(batch, answers, strict=True)):
            assert answer is not None
            results.append(self._read(work, answer, is_new=place in asked))
        return results

    def _count(
        self, usage: Usage, answers: Sequence[TeacherAnswer | RequestFailedError | None]
    ) -> None:
        with self._lock:
            for answer in answers:
                if isinstance(answer, TeacherAnswer):
                    usage.add(answer)

    def _read(
        self, work: _Work, answer: TeacherAnswer | RequestFailedError, *, is_new: bool
    ) -> _Result:
        if isinstance(answer, RequestFailedError):
            return _Result(problem=str(answer), server_is_down=answer.server_is_down)
        try:
            record = self.task.read(work.record, answer)
        except BadReplyError as error:
            return _Result(problem=str(error), can_ask_again=True, has_new_answer=is_new)
        return _Result(record, has_new_answer=is_new)

    def _collect(self) -> None:
        """Wait for a batch, and finish its rows or ask again."""
        batch, outcome = self._results.get()
        self._num_batches -= 1
        self._num_running -= len(batch)
        if isinstance(outcome, BaseException):
            raise outcome
        for work, result in zip(batch, outcome, strict=True):
            self._settle(work, result)

    def _settle(self, work: _Work, result: _Result) -> None:
        if result.has_new_answer:
            self._failures_in_a_row = 0
        if result.record is not None:
            self._finish(work.index, RowOutcome(work.raw, result.record, problems=work.problems))
            return
        assert result.problem is not None
        work.problems.append(result.problem)
        if result.can_ask_again:
            self.num_bad_answers += 1
            if len(work.problems) < self.max_attempts:
                work.request = self.task.request(work.record, len(work.problems))
                self._waiting.appendleft(work)
                return
        if result.server_is_down:
            self._failures_in_a_row += 1
            if self._failures_in_a_row >= self.max_failures_in_a_row:
                raise TeacherUnusableError(
                    f"the teacher gave no answer to {self._failures_in_a_row} requests in a row; "
                    f"the last one: {result.problem}. What it answered before is in "
                    f"{self.journal.path}, and the same command goes on from there"
                )
        self._finish(work.index, RowOutcome(work.raw, None, problems=work.problems))

    def _finish(self, index: int, outcome: RowOutcome) -> None:
        self._done[index] = outcome
        self._num_done += 1
        self.on_progress(self._num_done)
