"""The generated tasks as JSONL files, one for each split."""

from __future__ import annotations

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
from ift_lightning.data.tool_files import json_line, whole_file, write_json
from ift_lightning.errors import UserError, suggest
from ift_lightning.types import json_fingerprint

KINDS = ("tasks", "docstrings", "defects")
_LINES = 500  # written at once


def drill_outputs(folder: Path, sizes: Mapping[str, int]) -> list[Path]:
    """Return the files that are written for the splits that have rows."""
    return [folder / f"{split}.jsonl" for split, size in sizes.items() if size > 0]


def _rows(kind: str, split: str, size: int, seed: int) -> Iterator[dict[str, Any]]:
    if kind == "defects":
        yield from generate_defects(split, size, seed)
        return
    generate = generate_drills if kind == "tasks" else generate_docstring_tasks
    for record in generate(split, size, seed):
        yield record.to_json()


def write_drills(
    folder: Path,
    kind: str,
    sizes: Mapping[str, int],
    *,
    seed: int = 0,
    progress_bar: bool = True,
) -> dict[str, Any]:
    """Write generated rows, and return the report.

    A split whose file is whole is not made again after an interruption; the others are made anew,
    since each row follows from the random numbers of those before it.

    Args:
        folder: Where ``train.jsonl``, ``val.jsonl``, ``test.jsonl`` and ``report.json`` go.
        kind: "tasks" or "docstrings" in our own form, "defects" in the raw defect form.
        sizes: Rows of each split.
        seed: Another seed, other rows.
        progress_bar: Show one.

    Raises:
        UserError: There is no such kind, or no rows are asked for.
    """
    if kind not in KINDS:
        raise UserError(f"kind={kind}: {suggest(kind, KINDS)}")
    wanted = {split: size for split, size in sizes.items() if size > 0}
    if not wanted:
        raise UserError("no rows are asked for: look at num_train, num_val and num_test")
    key = json_fingerprint([DRILLS_VERSION, kind, wanted, seed])
    hidden = folder / f".drills-{key}"
    total = sum(wanted.values())
    with tqdm(total=total, desc="drills", unit=" rows", disable=not progress_bar) as bar:
        for split, size in wanted.items():
            path = hidden / f"{split}.jsonl"
            if path.exists():
                bar.update(size)
                continue
            rows = _rows(kind, split, size, seed)
            with whole_file(path) as file:
                while lines := [json_line(row) for row in islice(rows, _LINES)]:
                    file.writelines(lines)
                    bar.update(len(lines))
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
