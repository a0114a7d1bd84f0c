"""What every data tool does with files: check the paths, write whole files, keep an account."""

from __future__ import annotations

import contextlib
import json
import os
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from ift_lightning.errors import UserError


def json_line(value: Any) -> str:
    """Return a value as a line of JSON Lines; half a surrogate pair is written as an escape."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        text = json.dumps(value, default=str)
    return text + "\n"


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[IO[str]]:
    """Open a file that gets its name once it is whole; where writing fails, nothing is left."""
    path.parent.mkdir(parents=True, exist_ok=True)
    hidden = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with hidden.open("w", encoding="utf-8", newline="\n") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        hidden.replace(path)
    finally:
        hidden.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write a value as readable JSON, as a whole."""
    with whole_file(path) as file:
        file.write(json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n")


def check_output(source: Path | None, outputs: list[Path], *, overwrite: bool) -> None:
    """Refuse outputs that are the input, lie inside it, or are finished already.

    Args:
        source: File or folder that is read; None where rows are generated.
        outputs: Files that are going to be written.
        overwrite: Whether a finished output may be replaced.

    Raises:
        UserError: One of them is in the way.
    """
    if source is not None:
        read = source.resolve()
        for path in outputs:
            if path.resolve() == read or read in path.resolve().parents:
                raise UserError(
                    f"output={path} is {'the same file as' if path.resolve() == read else 'inside'}"
                    f" input={source}, which would be changed; write to another place"
                )
    for path in outputs:
        if path.is_dir():
            raise UserError(f"{path} is a folder; name a file that ends in .jsonl")
        if path.exists() and not overwrite:
            raise UserError(
                f"{path} is there already, and a finished output is kept. Write to another place, "
                "or replace it with overwrite=true"
            )


@dataclass
class Account:
    """What became of the rows."""

    num_rows: int = 0
    num_changed: int = 0
    num_unchanged: int = 0
    num_rejected: int = 0
    rejected: Counter[str] = field(default_factory=Counter)  # reason -> rows
    counts: Counter[str] = field(default_factory=Counter)  # whatever else the tool counts

    def add(self, other: Account) -> None:
        """Add the account of further rows."""
        for name in ("num_rows", "num_changed", "num_unchanged", "num_rejected"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.rejected.update(other.rejected)
        self.counts.update(other.counts)

    def to_json(self) -> dict[str, Any]:
        return {
            "num_rows": self.num_rows,
            "num_changed": self.num_changed,
            "num_unchanged": self.num_unchanged,
            "num_rejected": self.num_rejected,
            "rejected": dict(sorted(self.rejected.items())),
            "counts": dict(sorted(self.counts.items())),
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Account:
        """Return the account that :meth:`to_json` wrote."""
        account = cls(**values)
        account.rejected, account.counts = Counter(account.rejected), Counter(account.counts)
        return account


def reports_beside(output: Path) -> tuple[Path, Path]:
    """Return where the report and the rejected rows of an output file go.

    They are ``report.json`` and ``rejected.jsonl``, unless those belong to another output of the
    same folder; then they begin with the output's name.
    """
    report = output.with_name("report.json")
    if report.exists():
        try:
            owner = json.loads(report.read_text(encoding="utf-8")).get("output")
        except (ValueError, AttributeError):
            owner = None
        if owner != output.name:
            stem = output.stem
            return output.with_name(f"{stem}.report.json"), output.with_name(
                f"{stem}.rejected.jsonl"
            )
    return report, output.with_name("rejected.jsonl")
