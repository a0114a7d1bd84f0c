"""Files, generated tasks and the hub as sources of records."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ift_lightning.data import record_sources
from ift_lightning.data.record_sources import (
    DefectDrillSource,
    DrillSource,
    FileSource,
    HubSource,
)
from ift_lightning.errors import UserError
from ift_lightning.types import InstructionRecord, RawRow, RejectedRow, RowLocation


def write(path: Path, *pairs: tuple[str, str], **more: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [{"instruction": i, "output": o, **more} for i, o in pairs]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read(source: Any) -> list[tuple[RawRow, InstructionRecord]]:
    def fail(row: RejectedRow) -> None:
        raise AssertionError(row)

    return list(source.records(fail))


def test_file(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", ("i", "o"), ("j", "p"))
    found = read(FileSource(path))
    assert [(raw.split, raw.location) for raw, _ in found] == [
        (None, RowLocation(str(path), 1, 0)),
        (None, RowLocation(str(path), 2, 1)),
    ]
    assert [(record.instruction, record.output) for _, record in found] == [("i", "o"), ("j", "p")]


def test_own_files_of_splits(tmp_path: Path) -> None:
    path = write(tmp_path / "train.jsonl", ("i", "o"), ("same", "row"))
    val = write(tmp_path / "val.jsonl", ("v", "o"))
    test = write(tmp_path / "tests" / "a.jsonl", ("t", "o"), ("same", "row"))
    source = FileSource(path, own_paths={"val": val, "test": test.parent})
    found = [(raw.split, record.instruction, "#" in record.id) for raw, record in read(source)]
    assert found == [
        (None, "i", False),
        (None, "same", False),
        ("val", "v", False),
        ("test", "t", False),
        ("test", "same", True),
    ]


def test_bad_rows_are_handed_over(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"instruction": "i", "output": ""}\nbroken\n{"instruction": "i"}\n')
    bad: list[RejectedRow] = []
    assert list(FileSource(path).records(bad.append)) == []
    assert [(row.location.line, row.field) for row in bad] == [
        (1, "output"),
        (2, None),
        (3, "output"),
    ]


def test_form_and_fields(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"q": "i", "a": "o"}\n')
    source = FileSource(path, fields={"instruction": "q", "output": "a"})
    assert [(r.instruction, r.output) for _, r in read(source)] == [("i", "o")]


def test_missing_file_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="There is no file or folder"):
        FileSource(tmp_path / "none.jsonl")
    path = write(tmp_path / "rows.jsonl", ("i", "o"))
    with pytest.raises(UserError, match="There is no file or folder"):
        FileSource(path, own_paths={"val": tmp_path / "none.jsonl"})


def test_fingerprint_of_files(tmp_path: Path) -> None:
    path = write(tmp_path / "a" / "rows.jsonl", ("i", "o"))
    moved = write(tmp_path / "b" / "rows.jsonl", ("i", "o"))
    other = write(tmp_path / "c" / "rows.jsonl", ("i", "p"))
    base = FileSource(path).fingerprint
    assert len(base) == 16
    assert FileSource(moved).fingerprint == base
    different = [
        FileSource(other),
        FileSource(path, form="alpaca"),
        FileSource(path, fields={"input": "instruction"}),
        FileSource(path, own_paths={"val": other}),
        FileSource(path, own_paths={"test": other}),
        FileSource(path, own_paths={"val": path}),
    ]
    assert len({base, *(source.fingerprint for source in different)}) == 7


COMMIT = "0123456789abcdef" * 2 + "01234567"


@pytest.mark.parametrize("revision", [None, "main", "v1.0", "x" * 40])
def test_hub_rows_of_a_branch_have_no_fingerprint(revision: str | None) -> None:
    assert HubSource("owner/name", revision=revision).fingerprint == ""


def test_hub_fingerprint() -> None:
    base = HubSource("owner/name", revision=COMMIT)
    assert base.fingerprint == HubSource("owner/name", revision=COMMIT).fingerprint != ""
    others = [
        HubSource("owner/other", revision=COMMIT),
        HubSource("owner/name", revision=COMMIT[::-1]),
        HubSource("owner/name", revision=COMMIT, config="c"),
        HubSource("owner/name", revision=COMMIT, split="test"),
        HubSource("owner/name", revision=COMMIT, form="dolly"),
        HubSource("owner/name", revision=COMMIT, fields={"input": "context"}),
    ]
    assert len({base.fingerprint, *(source.fingerprint for source in others)}) == 7


def test_hub_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def rows(*positional: Any, **named: Any) -> Iterator[RawRow]:
        asked.append((positional, named))
        return iter([RawRow({"instruction": "i", "response": "o"}, RowLocation("hub", row=0))])

    monkeypatch.setattr(record_sources, "read_hub_rows", rows)
    source = HubSource("owner/name", revision=None, config="c", split="validation")
    assert [record.output for _, record in read(source)] == ["o"]
    assert asked == [(("owner/name", "main", "validation"), {"config": "c"})]


@pytest.mark.parametrize("kind", [DrillSource, DefectDrillSource])
def test_generated_records(kind: type[DrillSource]) -> None:
    source = kind({"train": 40, "val": 7, "test": 5}, seed=3)
    found = read(source)
    splits = [raw.split for raw, _ in found]
    assert splits == ["train"] * 40 + ["val"] * 7 + ["test"] * 5
    assert len({record.id for _, record in found}) == 52
    assert found == read(kind({"train": 40, "val": 7, "test": 5}, seed=3))
    # More records of a kind leave the first ones as they are.
    longer = read(kind({"train": 60, "val": 7, "test": 5}, seed=3))
    assert [record for _, record in longer[:40]] == [record for _, record in found[:40]]
    other = read(kind({"train": 40, "val": 7, "test": 5}, seed=4))
    assert [record for _, record in other] != [record for _, record in found]


def test_generated_records_fill_only_splits_that_are_asked_for() -> None:
    assert {raw.split for raw, _ in read(DrillSource({"test": 3}))} == {"test"}


def test_drills_are_instructions_and_defects_are_chats() -> None:
    assert all(record.output for _, record in read(DrillSource({"train": 5})))
    for raw, record in read(DefectDrillSource({"train": 5})):
        assert set(raw.values) >= {"instruction", "input", "output"}
        assert [turn.role for turn in record.messages] == ["user", "assistant"]
        assert record.subtype


def test_fingerprints_of_generated_records() -> None:
    sources = [
        kind(sizes, seed=seed)
        for kind in (DrillSource, DefectDrillSource)
        for sizes in ({"train": 3}, {"train": 4}, {"val": 3})
        for seed in (0, 1)
    ]
    assert len({source.fingerprint for source in sources}) == 12
    assert all(source.fingerprint for source in sources)
