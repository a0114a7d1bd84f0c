"""The generated tasks as JSONL files, one for each split."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from ift_lightning.data.drills import (
    DRILLS_VERSION,
    generate_defects,
    generate_docstring_tasks,
    generate_drills,
)
from ift_lightning.data.tool_files import json_line, locked, write_json
from ift_lightning.errors import UserError, suggest
from ift_lightning.types import json_fingerprint

KINDS = ("tasks", "docstrings", "defects")
_LINES = 500  # written at once


def drill_outputs(folder: Path, sizes: Mapping[str, int]) -> list[Path]:
    """Return the files that are written for the splits that have rows."""
    return [folder / f"{split}.jsonl" for split, size in sizes.items() if size > 0]


def _rows(
    kind: str, split: str, size: int, seed: int, *, rng: random.Random, first: int
) -> Iterator[dict[str, Any]]:
    if kind == "defects":
        yield from generate_defects(split, size, seed, rng=rng, first=first)
        return
    generate = generate_drills if kind == "tasks" else generate_docstring_tasks
    for record in generate(split, size, seed, rng=rng, first=first):
        yield record.to_json()


class _PartialSplit:
    """The rows of a split that are made so far, and the random numbers behind the last of them."""

    def __init__(self, path: Path) -> None:
        self._path = path.with_name(f"{path.stem}.partial")
        self._state = path.with_name(f"{path.stem}.state.json")
        self._whole = path
        self.rng = random.Random()
        self.num_rows = 0
        self._num_bytes = 0
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            state = json.loads(self._state.read_text(encoding="utf-8"))
            version, numbers, gauss = state["rng"]
            if self._path.stat().st_size >= state["num_bytes"]:
                self.rng.setstate((version, tuple(numbers), gauss))
                self.num_rows, self._num_bytes = state["num_rows"], state["num_bytes"]

    def write(self, rows: Iterator[dict[str, Any]], bar: Any) -> None:
        """Write the rows that are missing, and give the file its name."""
        with self._path.open("ab") as file:
            file.truncate(self._num_bytes)
            while chunk := list(islice(rows, _LINES)):
                file.write("".join(map(json_line, chunk)).encode())
                file.flush()
                self.num_rows += len(chunk)
                state = {
                    "num_rows": self.num_rows,
                    "num_bytes": file.tell(),
                    "rng": self.rng.getstate(),
                }
                write_json(self._state, state)
                bar.update(len(chunk))
            os.fsync(file.fileno())
        self._path.replace(self._whole)


def write_drills(
    folder: Path,
    kind: str,
    sizes: Mapping[str, int],
    *,
    seed: int = 0,
    progress_bar: bool = True,
) -> dict[str, Any]:
    """Write generated rows, and return the report.

    After an interruption, the same call goes on behind the last rows that are on the disk.

    Args:
        folder: Where ``train.jsonl``, ``val.jsonl``, ``test.jsonl`` and ``report.json`` go.
        kind: "tasks" or "docstrings" in our own form, "defects" in the raw defect form.
        sizes: Rows of each split.
        seed: Another seed, other rows.
        progress_bar: Show one.

    Raises:
        UserError: There is no such kind, no rows are asked for, or another process is writing
            them.
    """
    if kind not in KINDS:
        raise UserError(f"kind={kind}: {suggest(kind, KINDS)}")
    wanted = {split: size for split, size in sizes.items() if size > 0}
    if not wanted:
        raise UserError("no rows are asked for: look at num_train, num_val and num_test")
    key = json_fingerprint([DRILLS_VERSION, kind, wanted, seed])
    hidden = folder / f".drills-{key}"
    total = sum(wanted.values())
    with (
        locked(hidden),
        tqdm(total=total, desc="drills", unit=" rows", disable=not progress_bar) as bar,
    ):
        for split, size in wanted.items():
            path = hidden / f"{split}.jsonl"
            if path.exists():
                bar.update(size)
                continue
            part = _PartialSplit(path)
            bar.update(part.num_rows)
            rows = _rows(kind, split, size, seed, rng=part.rng, first=part.num_rows)
            part.write(rows, bar)
    report = {
        "task": "drills",
        "version": DRILLS_VERSION,
        "kind": kind,
        "seed": seed,
        "num_rows": total,
        "num_changed": 0,
        "num_unchanged": total,
        "num_rejected": 0,
        "rejected": {},
        "splits": wanted,
    }
    write_json(folder / "report.json", report)
    for split in wanted:
        (hidden / f"{split}.jsonl").replace(folder / f"{split}.jsonl")
    shutil.rmtree(hidden)
    return report
