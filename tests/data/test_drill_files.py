"""The generated tasks as files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ift_lightning.data import drill_files
from ift_lightning.data.drill_files import write_drills
from ift_lightning.data.drills import (
    DRILLS_VERSION,
    generate_defects,
    generate_docstring_tasks,
    generate_drills,
)
from ift_lightning.errors import UserError

SIZES = {"train": 12, "val": 3, "test": 0}


@pytest.mark.parametrize("kind", drill_files.KINDS)
def test_files_hold_what_is_generated(kind: str, tmp_path: Path) -> None:
    report = write_drills(tmp_path, kind, SIZES, seed=3, progress_bar=False)
    assert report["version"] == DRILLS_VERSION and report["splits"] == {"train": 12, "val": 3}
    rows = [json.loads(line) for line in (tmp_path / "train.jsonl").read_text().splitlines()]
    expected = {
        "tasks": lambda: [row.to_json() for row in generate_drills("train", 12, 3)],
        "docstrings": lambda: [row.to_json() for row in generate_docstring_tasks("train", 12, 3)],
        "defects": lambda: list(generate_defects("train", 12, 3)),
    }[kind]()
    assert rows == json.loads(json.dumps(expected))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "report.json",
        "train.jsonl",
        "val.jsonl",
    ]


def test_a_stopped_run_keeps_whole_splits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_drills(tmp_path / "whole", "tasks", SIZES, progress_bar=False)
    made = []
    real = drill_files._rows

    def stops(kind: str, split: str, size: int, seed: int):  # type: ignore[no-untyped-def]
        made.append(split)
        if made == ["train", "val"]:
            raise KeyboardInterrupt
        return real(kind, split, size, seed)

    monkeypatch.setattr(drill_files, "_rows", stops)
    with pytest.raises(KeyboardInterrupt):
        write_drills(tmp_path / "parts", "tasks", SIZES, progress_bar=False)
    assert not (tmp_path / "parts/train.jsonl").exists()
    write_drills(tmp_path / "parts", "tasks", SIZES, progress_bar=False)
    assert made == ["train", "val", "val"]
    for name in ("train.jsonl", "val.jsonl", "report.json"):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_what_cannot_be_made(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Did you mean 'tasks'"):
        write_drills(tmp_path, "task", SIZES)
    with pytest.raises(UserError, match="no rows are asked for"):
        write_drills(tmp_path, "tasks", {"train": 0})
