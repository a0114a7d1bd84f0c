"""The generated tasks as files."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import pytest

from ift_lightning.data import drill_files
from ift_lightning.data.drill_files import write_drills
from ift_lightning.data.drills import (
    DRILLS_VERSION,
    generate_defects,
    generate_docstring_tasks,
    generate_drills,
)
from ift_lightning.data.tool_files import locked
from ift_lightning.errors import UserError
from ift_lightning.types import json_fingerprint

SIZES = {"train": 12, "val": 3, "test": 0}
KEY = json_fingerprint([DRILLS_VERSION, "tasks", {"train": 12, "val": 3}, 3])


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


@pytest.mark.parametrize("kind", drill_files.KINDS)
def test_a_stopped_run_goes_on_and_gives_the_same_bytes(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drill_files, "_LINES", 5)
    write_drills(tmp_path / "whole", kind, SIZES, progress_bar=False)
    firsts: list[tuple[str, int]] = []
    stop_at: tuple[str, int] | None = None
    real = drill_files._rows

    def stops(kind: str, split: str, size: int, seed: int, *, rng: Random, first: int) -> Any:
        firsts.append((split, first))
        for number, row in enumerate(real(kind, split, size, seed, rng=rng, first=first), first):
            if (split, number) == stop_at:
                raise KeyboardInterrupt
            yield row

    monkeypatch.setattr(drill_files, "_rows", stops)
    for place in (("train", 8), ("train", 11), ("val", 1)):
        stop_at = place
        with pytest.raises(KeyboardInterrupt):
            write_drills(tmp_path / "parts", kind, SIZES, progress_bar=False)
        assert not (tmp_path / "parts/train.jsonl").exists()
        for half in (tmp_path / "parts").glob(".drills-*/*.partial"):
            half.write_bytes(half.read_bytes() + b'{"half": ')  # as a killed process leaves it
    stop_at = None
    write_drills(tmp_path / "parts", kind, SIZES, progress_bar=False)
    assert firsts == [("train", 0), ("train", 5), ("train", 10), ("val", 0), ("val", 0)]
    for name in ("train.jsonl", "val.jsonl", "report.json"):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    with locked(tmp_path / f".drills-{KEY}"), pytest.raises(UserError, match="another process"):
        write_drills(tmp_path, "tasks", SIZES, seed=3, progress_bar=False)


def test_what_cannot_be_made(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Did you mean 'tasks'"):
        write_drills(tmp_path, "task", SIZES)
    with pytest.raises(UserError, match="no rows are asked for"):
        write_drills(tmp_path, "tasks", {"train": 0})
