"""Tokenized splits on disk: made once, memory-mapped, and shared by every arm of a sweep.

An entry is a folder named after everything its content depends on. It is written under another
name and renamed when whole, so that a process that is killed leaves nothing that looks finished,
and two that build the same entry do not disturb each other.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import shutil
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from ift_lightning.data.split_files import SplitStatistics, SplitWriter, TokenizedSplit
from ift_lightning.types import (
    SPLITS,
    InstructionRecord,
    RejectedRow,
    TokenizedExample,
    json_fingerprint,
)

CACHE_FORMAT = 3
_NUM_TRIES = 100
_PAUSE = 0.05  # seconds between them


@dataclass(slots=True)
class TokenizedData:
    """All splits of a data set, and what was left out of them."""

    splits: dict[str, TokenizedSplit]
    num_rejected: int
    rejected_path: Path  # JSONL of RejectedRow.to_json(), in the order of reading
    from_cache: bool = False
    # Level of reasoning -> target tokens that the training rows would have at it, for every level
    # that DataPreparation was asked to look at.
    num_target_tokens_by_level: dict[str, int] = field(default_factory=dict)
    variant_counts: dict[str, int] = field(default_factory=dict)  # what the variant did, by kind


class TokenCacheWriter:
    """Collects examples and rejected rows of all splits into one cache entry."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.num_rejected = 0
        self.num_target_tokens_by_level: dict[str, int] = {}
        self.variant_counts: dict[str, int] = {}
        self._splits = {name: SplitWriter(folder / f"{name}.arrow") for name in SPLITS}
        self._rejected_path = folder / "rejected.jsonl"
        self._rejected: IO[str] = self._rejected_path.open("w", encoding="utf-8")
        self._rejected_digest = hashlib.sha256()

    @property
    def num_rows(self) -> dict[str, int]:
        return {name: writer.statistics.num_rows for name, writer in self._splits.items()}

    def add(self, split: str, record: InstructionRecord, example: TokenizedExample) -> None:
        self._splits[split].add(record, example)

    def reject(self, row: RejectedRow) -> None:
        self.num_rejected += 1
        line = json_line(row)
        self._rejected_digest.update(line.encode())
        self._rejected.write(line)

    def flushed_rejected(self) -> Path:
        """Return the file of rejected rows, whole as far as it goes."""
        self._rejected.flush()
        return self._rejected_path

    def close(self) -> None:
        self._rejected.close()
        for writer in self._splits.values():
            writer.close()

    def finish(self) -> str:
        """Complete the entry, and return the fingerprint of what it holds."""
        self.close()
        statistics = {name: writer.statistics.to_json() for name, writer in self._splits.items()}
        meta = {
            "format": CACHE_FORMAT,
            "num_rejected": self.num_rejected,
            "num_target_tokens_by_level": self.num_target_tokens_by_level,
            "variant_counts": self.variant_counts,
            "splits": statistics,
            "num_bytes": {file.name: file.stat().st_size for file in self.folder.iterdir()},
        }
        (self.folder / "meta.json").write_text(json.dumps(meta, indent=1), encoding="utf-8")
        return json_fingerprint([statistics, self._rejected_digest.hexdigest()])


def json_line(row: RejectedRow) -> str:
    """Return a rejected row as a line of ``rejected.jsonl``."""
    text = json.dumps(row.to_json(), ensure_ascii=False, default=str)
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair, which may be why it was rejected
        text = json.dumps(row.to_json(), ensure_ascii=True, default=str)
    return text + "\n"


class TokenCache:
    """Folder of cache entries.

    Args:
        root: Folder, made when first written to; may be shared by several machines.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def open(self, key: str) -> TokenizedData | None:
        """Return the entry of ``key``, or None where there is no whole one."""
        import pyarrow as pa

        folder = self.root / key
        try:
            meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
            if meta["format"] != CACHE_FORMAT:
                return None
            for name, num_bytes in meta["num_bytes"].items():
                if (folder / name).stat().st_size != num_bytes:
                    return None
            splits = {
                name: TokenizedSplit(folder / f"{name}.arrow", SplitStatistics(**statistics))
                for name, statistics in meta["splits"].items()
            }
            num_rejected = int(meta["num_rejected"])
            by_level = dict(meta["num_target_tokens_by_level"])
            variant_counts = dict(meta["variant_counts"])
        # Whatever is wrong with an entry, making it again mends it.
        except (OSError, ValueError, KeyError, TypeError, AttributeError, pa.ArrowException):
            return None
        return TokenizedData(
            splits,
            num_rejected,
            folder / "rejected.jsonl",
            from_cache=True,
            num_target_tokens_by_level=by_level,
            variant_counts=variant_counts,
        )

    def make(
        self, key: str, fill: Callable[[TokenCacheWriter], None], *, by_content: bool = False
    ) -> TokenizedData:
        """Make the entry of ``key``; nothing is left of it where ``fill`` raises.

        Args:
            key: Identifies everything that the content depends on.
            fill: Writes the content.
            by_content: ``key`` does not identify the rows, so their fingerprint becomes part of
                the entry's name.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        folder = self._hidden(key)
        folder.mkdir()
        try:
            writer = TokenCacheWriter(folder)
            try:
                fill(writer)
                content = writer.finish()
            finally:
                writer.close()
            data = self._publish(folder, f"{key}-{content}" if by_content else key)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        data.from_cache = False
        return data

    def _hidden(self, key: str) -> Path:
        return self.root / f".{key}-{uuid.uuid4().hex}"

    def _publish(self, folder: Path, key: str) -> TokenizedData:
        """Give a whole entry its name, unless another process was first."""
        target = self.root / key
        for _ in range(_NUM_TRIES):
            try:
                folder.rename(target)
            except FileNotFoundError:
                pass  # it was renamed in an earlier round, and another process has moved it since
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
            data = self.open(key)
            if data is not None:
                return data
            if not folder.exists():
                time.sleep(_PAUSE)
                continue
            # What has the name is broken. It goes in one move, so that nobody sees half of it.
            broken = self._hidden(key)
            with contextlib.suppress(OSError):
                target.rename(broken)
                shutil.rmtree(broken, ignore_errors=True)
        raise RuntimeError(f"the cache entry {target} cannot be read back")
