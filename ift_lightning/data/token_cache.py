"""Tokenized splits on disk: made once, memory-mapped, and shared by every arm of a sweep.

An entry is a folder named after everything its content depends on. It is written under another
name and renamed when whole, so that a process that is killed leaves nothing that looks finished,
and two that build the same entry do not disturb each other.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from ift_lightning.types import SPLITS, InstructionRecord, RejectedRow, TokenizedExample

CACHE_FORMAT = 1
_ROWS_PER_BLOCK = 512


@dataclass(slots=True)
class SplitStatistics:
    """What a split holds, counted while it was written."""

    num_rows: int = 0
    num_tokens: int = 0
    num_target_tokens: int = 0
    num_truncated: int = 0  # rows whose prompt was cut
    num_ends_supervised: int = 0
    longest: int = 0  # tokens
    fingerprint: str = ""  # of the records, ids and texts, in order
    ids_fingerprint: str = ""  # of the row ids alone, whatever their order

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


class TokenizedSplit:
    """Random access to the examples of one split, memory-mapped.

    Args:
        path: Arrow file.
        statistics: What was counted when it was written.
    """

    def __init__(self, path: Path, statistics: SplitStatistics) -> None:
        from datasets import Dataset

        self.path = path
        self.statistics = statistics
        self._rows = Dataset.from_file(str(path)).with_format("numpy")
        # Two numbers a row are all that planning keeps in memory.
        columns = self._rows.select_columns(["length", "weight"])[:]
        self.lengths: npt.NDArray[np.int64] = np.asarray(columns["length"], dtype=np.int64)
        self.weights: npt.NDArray[np.float64] = np.asarray(columns["weight"], dtype=np.float64)

    def __len__(self) -> int:
        return len(self.lengths)

    def rows(self, indices: Iterable[int]) -> list[TokenizedExample]:
        """Return the examples at ``indices``."""
        wanted = list(indices)
        block = self._rows[wanted]
        return [
            TokenizedExample(
                id=str(block["id"][i]),
                input_ids=block["input_ids"][i].tolist(),
                loss_weights=block["loss_weights"][i].tolist(),
                num_prompt_tokens=int(block["num_prompt_tokens"][i]),
                end_is_supervised=bool(block["end_is_supervised"][i]),
                num_cut_tokens=int(block["num_cut_tokens"][i]),
            )
            for i in range(len(wanted))
        ]


@dataclass(slots=True)
class TokenizedData:
    """All splits of a data set, and what was left out of them."""

    splits: dict[str, TokenizedSplit]
    num_rejected: int
    rejected_path: Path  # JSONL of RejectedRow.to_json(), in the order of reading
    from_cache: bool = False


@dataclass(slots=True)
class _SplitWriter:
    path: Path
    statistics: SplitStatistics = field(default_factory=SplitStatistics)
    _block: list[dict[str, Any]] = field(default_factory=list)
    _sink: Any = None
    _writer: Any = None
    _records: Any = field(default_factory=hashlib.sha256)
    _ids: int = 0

    def add(self, record: InstructionRecord, example: TokenizedExample) -> None:
        self._block.append(
            {
                "id": example.id,
                "input_ids": example.input_ids,
                "loss_weights": example.loss_weights,
                "num_prompt_tokens": example.num_prompt_tokens,
                "end_is_supervised": example.end_is_supervised,
                "num_cut_tokens": example.num_cut_tokens,
                "length": len(example.input_ids),
                "weight": float(sum(example.loss_weights)),
            }
        )
        counts = self.statistics
        counts.num_rows += 1
        counts.num_tokens += len(example.input_ids)
        counts.num_target_tokens += example.num_target_tokens
        counts.num_truncated += example.num_cut_tokens > 0
        counts.num_ends_supervised += example.end_is_supervised
        counts.longest = max(counts.longest, len(example.input_ids))
        text = json.dumps(record.to_json(), sort_keys=True, ensure_ascii=True)
        self._records.update(text.encode())
        # A sum does not depend on the order of the rows.
        digest = hashlib.sha256(record.id.encode("utf-8", "surrogatepass")).digest()
        self._ids = (self._ids + int.from_bytes(digest[:8], "big")) % 2**64
        if len(self._block) >= _ROWS_PER_BLOCK:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa

        schema = pa.schema(
            [
                ("id", pa.string()),
                ("input_ids", pa.list_(pa.int32())),
                ("loss_weights", pa.list_(pa.float32())),
                ("num_prompt_tokens", pa.int32()),
                ("end_is_supervised", pa.bool_()),
                ("num_cut_tokens", pa.int32()),
                ("length", pa.int32()),
                ("weight", pa.float64()),
            ]
        )
        if self._writer is None:
            self._sink = pa.OSFile(str(self.path), "wb")
            self._writer = pa.ipc.new_stream(self._sink, schema)
        if self._block:
            self._writer.write_table(pa.Table.from_pylist(self._block, schema=schema))
            self._block = []

    def close(self) -> None:
        self._flush()
        self._writer.close()
        self._sink.close()
        self.statistics.fingerprint = self._records.hexdigest()[:16]
        self.statistics.ids_fingerprint = f"{self._ids:016x}"


class TokenCacheWriter:
    """Collects examples and rejected rows of all splits into one cache entry."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.num_rejected = 0
        self._splits = {name: _SplitWriter(folder / f"{name}.arrow") for name in SPLITS}
        self._rejected: IO[str] = (folder / "rejected.jsonl").open("w", encoding="utf-8")

    @property
    def num_rows(self) -> dict[str, int]:
        return {name: writer.statistics.num_rows for name, writer in self._splits.items()}

    def add(self, split: str, record: InstructionRecord, example: TokenizedExample) -> None:
        self._splits[split].add(record, example)

    def reject(self, row: RejectedRow) -> None:
        self.num_rejected += 1
        line = json.dumps(row.to_json(), ensure_ascii=True, default=str)
        self._rejected.write(line + "\n")

    def close(self) -> None:
        self._rejected.close()
        for writer in self._splits.values():
            writer.close()
        meta = {
            "format": CACHE_FORMAT,
            "num_rejected": self.num_rejected,
            "splits": {name: item.statistics.to_json() for name, item in self._splits.items()},
        }
        (self.folder / "meta.json").write_text(json.dumps(meta, indent=1), encoding="utf-8")


class TokenCache:
    """Folder of cache entries.

    Args:
        root: Folder, made when first written to; may be shared by several machines.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def open(self, key: str) -> TokenizedData | None:
        """Return the entry of ``key``, or None where there is no whole one."""
        folder = self.root / key
        try:
            meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        if meta.get("format") != CACHE_FORMAT:
            return None
        splits = {
            name: TokenizedSplit(folder / f"{name}.arrow", SplitStatistics(**statistics))
            for name, statistics in meta["splits"].items()
        }
        rejected = folder / "rejected.jsonl"
        return TokenizedData(splits, meta["num_rejected"], rejected, from_cache=True)

    @contextlib.contextmanager
    def writing(self, key: str) -> Iterator[TokenCacheWriter]:
        """Write the entry of ``key``; it appears when the block ends without an exception."""
        self.root.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{key}-", dir=self.root))
        writer = TokenCacheWriter(folder)
        try:
            yield writer
            writer.close()
            target = self.root / key
            try:
                os.rename(folder, target)
            except OSError:
                # Another process finished the same entry first, or left an unreadable one.
                if self.open(key) is None:
                    shutil.rmtree(target, ignore_errors=True)
                    os.rename(folder, target)
        finally:
            writer._rejected.close()
            shutil.rmtree(folder, ignore_errors=True)
