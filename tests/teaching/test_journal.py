"""Nothing that was written is lost, whatever ended the process."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ift_lightning.errors import UserError
from ift_lightning.teaching.exchange import TeacherAnswer, TeacherRequest
from ift_lightning.teaching.journal import AnswerJournal

REQUEST = TeacherRequest("r", (("user", "问"),))
FIRST = TeacherAnswer("答\n\ud83d", "stop", 3, 4)
SECOND = TeacherAnswer("", None)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "deep" / "answers.jsonl"
    with AnswerJournal(path) as journal:
        journal.add("k1", REQUEST, FIRST)
        journal.add("k2", REQUEST, SECOND)
    return path


def test_answers_come_back_as_they_were(path: Path) -> None:
    with AnswerJournal(path) as journal:
        assert (journal.get("k1"), journal.get("k2"), journal.get("k3")) == (FIRST, SECOND, None)
        assert len(journal) == 2


@pytest.mark.parametrize("num_bytes", [1, 5, 40])
def test_a_line_that_was_cut_is_taken_away_and_written_anew(path: Path, num_bytes: int) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[:-num_bytes])
    with AnswerJournal(path) as journal:
        assert (journal.get("k1"), journal.get("k2")) == (FIRST, None)
        journal.add("k2", REQUEST, SECOND)
    assert path.read_bytes() == whole


def test_each_answer_is_on_the_disk_when_add_returns(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    real = os.fsync
    with AnswerJournal(path) as journal:

        def fsync(descriptor: int) -> None:
            synced.append(os.fstat(descriptor).st_size)
            real(descriptor)

        monkeypatch.setattr(os, "fsync", fsync)
        journal.add("k3", REQUEST, FIRST)
        assert synced == [path.stat().st_size]
        assert path.read_bytes().count(b"\n") == 3


def test_a_second_process_is_refused(path: Path) -> None:
    with AnswerJournal(path), pytest.raises(UserError, match="in use by another run"):
        AnswerJournal(path)
    AnswerJournal(path).close()


def test_a_file_that_is_no_journal_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"instruction": "x"}\n{"half', encoding="utf-8")
    with pytest.raises(UserError, match=r"rows.jsonl:1 is no line of a journal"):
        AnswerJournal(path)
    assert path.read_text(encoding="utf-8") == '{"instruction": "x"}\n{"half'


def test_requests_differ_by_row_messages_attempt_and_teacher() -> None:
    keys = {
        TeacherRequest(row, (("user", text),), attempt).fingerprint(teacher)
        for row in "ab"
        for text in "xy"
        for attempt in (0, 1)
        for teacher in (["m", {"temperature": 0.7}], ["m", {"temperature": 0.8}])
    }
    assert len(keys) == 16
