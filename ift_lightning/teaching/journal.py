"""Every answer that a teacher gave, on disk before anything is made of it.

A line is written and synced as soon as an answer is there, so that whatever ends the process, no
answer that was paid for is lost, and none is asked for twice.
"""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import threading
from pathlib import Path
from types import TracebackType

from ift_lightning.errors import UserError
from ift_lightning.teaching.exchange import TeacherAnswer, TeacherRequest


class AnswerJournal:
    """An append-only file of answers by the fingerprint of their requests.

    A last line that was cut by the end of a process or a machine is taken away. The file is locked
    while it is open.

    Args:
        path: JSONL file, made where there is none.

    Raises:
        UserError: Another process has the file, or it is no journal.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._answers: dict[str, TeacherAnswer] = {}
        self._lock = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a+b", buffering=0)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise UserError(
                f"{path} is in use by another run; wait for it, or write to another output"
            ) from None
        try:
            self._read()
        except BaseException:
            self._file.close()
            raise
        _sync_folder(path.parent)

    def _read(self) -> None:
        self._file.seek(0)
        good = 0
        with open(os.dup(self._file.fileno()), "rb") as file:  # noqa: PTH123
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    break
                try:
                    entry = json.loads(line)
                    key = entry["key"]
                    answer = TeacherAnswer(**entry["answer"])
                except (ValueError, KeyError, TypeError) as error:
                    raise UserError(
                        f"{self.path}:{number} is no line of a journal of answers ({error}); "
                        "correct it, or move the file away"
                    ) from error
                self._answers[key] = answer
                good += len(line)
        os.ftruncate(self._file.fileno(), good)

    def __len__(self) -> int:
        return len(self._answers)

    def get(self, key: str) -> TeacherAnswer | None:
        """Return the answer to a request that was asked before."""
        return self._answers.get(key)

    def add(self, key: str, request: TeacherRequest, answer: TeacherAnswer) -> None:
        """Write an answer down; it is on the disk when this returns. Threads may call it."""
        entry = {
            "key": key,
            "row_id": request.row_id,
            "attempt": request.attempt,
            "answer": dataclasses.asdict(answer),
        }
        # ASCII: half of a surrogate pair, which a server may send, can be written like anything.
        line = json.dumps(entry).encode("ascii") + b"\n"
        with self._lock:
            written = 0
            while written < len(line):  # a raw file may take less than it was given
                written += self._file.write(line[written:])
            os.fsync(self._file.fileno())
            self._answers[key] = answer

    def close(self) -> None:
        """Close the file, and so give it free."""
        self._file.close()

    def __enter__(self) -> AnswerJournal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _sync_folder(folder: Path) -> None:
    """Make sure that the file's name outlives the machine, not only its content."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
