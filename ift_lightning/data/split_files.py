"""One split's examples in an Arrow file: written block by block, read through a memory map."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ift_lightning.types import InstructionRecord, Message, TokenizedExample

# A block is written when it has either.
_ROWS_PER_BLOCK = 4096
_TOKENS_PER_BLOCK = 1 << 19

_RECORD_FIELDS = tuple(field.name for field in dataclasses.fields(InstructionRecord))


@dataclass(slots=True)
class SplitStatistics:
    """What a split holds, counted while it was written."""

    num_rows: int = 0
    num_tokens: int = 0
    num_target_tokens: int = 0
    num_truncated: int = 0  # rows whose prompt was cut
    num_ends_supervised: int = 0
    longest: int = 0  # tokens
    # Role -> target tokens; they add up to num_target_tokens.
    num_target_tokens_by_role: dict[str, int] = field(default_factory=dict)
    fingerprint: str = ""  # of the records, ids and texts, in order
    ids_fingerprint: str = ""  # of the row ids alone, whatever their order

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


class TokenizedSplit:
    """Random access to the examples of one split, memory-mapped.

    Args:
        path: Arrow file.
        statistics: What was counted when it was written.

    Raises:
        ValueError: The file is not whole, or not what the statistics say.
    """

    def __init__(self, path: Path, statistics: SplitStatistics) -> None:
        import pyarrow as pa

        self.path = path
        self.statistics = statistics
        with pa.memory_map(str(path)) as file:
            blocks = pa.ipc.open_stream(file).read_all().to_batches()
        self._blocks = blocks
        # Three numbers a row are all that planning keeps in memory.
        self.lengths: npt.NDArray[np.int64] = _column(blocks, "length", np.int64)
        self.weights: npt.NDArray[np.float64] = _column(blocks, "weight", np.float64)
        self.num_targets: npt.NDArray[np.int64] = _column(blocks, "num_targets", np.int64)
        self._ends = np.cumsum([block.num_rows for block in blocks], dtype=np.int64)
        self._tokens = [
            (_values(block, "input_ids"), _values(block, "loss_weights"), _offsets(block))
            for block in blocks
        ]
        if len(self.lengths) != statistics.num_rows or self.lengths.sum() != statistics.num_tokens:
            raise ValueError(f"{path} does not hold the rows that were counted")

    def __reduce__(self) -> tuple[Any, ...]:
        # A worker process maps the file itself, rather than being sent all of it.
        return TokenizedSplit, (self.path, self.statistics)

    def __len__(self) -> int:
        return len(self.lengths)

    def _place(self, index: int) -> tuple[int, int]:
        if not 0 <= index < len(self):
            raise IndexError(f"row {index} of {len(self)}")
        block = int(np.searchsorted(self._ends, index, side="right"))
        return block, index - int(self._ends[block] - self._blocks[block].num_rows)

    def tokens(self, index: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
        """Return views of a row's ``input_ids`` and ``loss_weights``, each of its length."""
        block, row = self._place(index)
        input_ids, loss_weights, offsets = self._tokens[block]
        span = slice(offsets[row], offsets[row + 1])
        return input_ids[span], loss_weights[span]

    def id_of(self, index: int) -> str:
        """Return a row's id."""
        block, row = self._place(index)
        return str(self._blocks[block]["id"][row])

    def rows(self, indices: Iterable[int]) -> list[TokenizedExample]:
        """Return the examples at ``indices``."""
        return [self._row(index) for index in indices]

    def _row(self, index: int) -> TokenizedExample:
        block, row = self._place(index)
        columns = self._blocks[block]
        input_ids, loss_weights = self.tokens(index)
        return TokenizedExample(
            id=self.id_of(index),
            input_ids=input_ids.tolist(),
            loss_weights=loss_weights.tolist(),
            num_prompt_tokens=columns["num_prompt_tokens"][row].as_py(),
            end_is_supervised=columns["end_is_supervised"][row].as_py(),
            num_cut_tokens=columns["num_cut_tokens"][row].as_py(),
        )


def _column(blocks: list[Any], name: str, dtype: Any) -> Any:
    parts = [block[name].to_numpy() for block in blocks]
    return np.concatenate([np.empty(0, dtype), *parts]).astype(dtype)


def _values(block: Any, name: str) -> Any:
    return block[name].values.to_numpy()


def _offsets(block: Any) -> Any:
    offsets = block["input_ids"].offsets.to_numpy()
    if not np.array_equal(offsets, block["loss_weights"].offsets.to_numpy()):
        raise ValueError("a row has not as many loss weights as tokens")
    return offsets


class SplitWriter:
    """Writes the examples of one split, and counts what they hold.

    Args:
        path: Arrow file, made at once.
    """

    def __init__(self, path: Path) -> None:
        import pyarrow as pa

        self.statistics = SplitStatistics()
        self._schema = pa.schema(
            [
                ("id", pa.string()),
                ("num_prompt_tokens", pa.int32()),
                ("end_is_supervised", pa.bool_()),
                ("num_cut_tokens", pa.int32()),
                ("length", pa.int32()),
                ("weight", pa.float64()),
                ("num_targets", pa.int32()),
                ("input_ids", pa.list_(pa.int32())),
                ("loss_weights", pa.list_(pa.float32())),
            ]
        )
        self._sink = pa.OSFile(str(path), "wb")
        self._writer = pa.ipc.new_stream(self._sink, self._schema)
        self._rows: list[tuple[Any, ...]] = []  # all columns but the last two
        self._input_ids: list[int] = []
        self._loss_weights: list[float] = []
        self._records = hashlib.sha256()
        self._ids = 0

    def add(self, record: InstructionRecord, example: TokenizedExample) -> None:
        """Append an example, and what it was made of to the fingerprint."""
        length, num_cut = len(example.input_ids), example.num_cut_tokens
        num_targets = example.num_target_tokens
        assert len(example.loss_weights) == length
        self._rows.append(
            (
                example.id,
                example.num_prompt_tokens,
                example.end_is_supervised,
                num_cut,
                length,
                float(sum(example.loss_weights)),
                num_targets,
            )
        )
        self._input_ids += example.input_ids
        self._loss_weights += example.loss_weights
        counts = self.statistics
        counts.num_rows += 1
        counts.num_tokens += length
        counts.num_target_tokens += num_targets
        for role, count in example.target_tokens_by_role.items():
            by_role = counts.num_target_tokens_by_role
            by_role[role] = by_role.get(role, 0) + count
        counts.num_truncated += num_cut > 0
        counts.num_ends_supervised += example.end_is_supervised
        counts.longest = max(counts.longest, length)
        self._records.update(_record_bytes(record))
        # A sum does not depend on the order of the rows.
        digest = hashlib.sha256(record.id.encode("utf-8", "surrogatepass")).digest()
        self._ids = (self._ids + int.from_bytes(digest[:8], "big")) % 2**64
        if len(self._rows) >= _ROWS_PER_BLOCK or len(self._input_ids) >= _TOKENS_PER_BLOCK:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa

        if not self._rows:
            return
        columns = list(zip(*self._rows, strict=True))
        lengths = columns[self._schema.get_field_index("length")]
        offsets = pa.array(np.cumsum([0, *lengths], dtype=np.int32))
        arrays = [
            pa.array(column, type=field.type)
            for column, field in zip(columns, self._schema, strict=False)
        ]
        for values, dtype in ((self._input_ids, np.int32), (self._loss_weights, np.float32)):
            arrays.append(pa.ListArray.from_arrays(offsets, pa.array(np.array(values, dtype))))
        self._writer.write_batch(pa.record_batch(arrays, schema=self._schema))
        self._rows, self._input_ids, self._loss_weights = [], [], []

    def close(self) -> None:
        """Write what is left and complete the statistics; a second call does nothing."""
        if self._sink.closed:
            return
        self._flush()
        self._writer.close()
        self._sink.close()
        self.statistics.fingerprint = self._records.hexdigest()[:16]
        self.statistics.ids_fingerprint = f"{self._ids:016x}"


def _record_bytes(record: InstructionRecord) -> bytes:
    """Return a record as bytes that differ where the record does."""
    values = [getattr(record, name) for name in _RECORD_FIELDS]
    return _ENCODER.encode(values).encode() + b"\n"


def _plain(value: Any) -> Any:
    if isinstance(value, Message):
        return [value.role, value.content]
    return str(value)  # a date or the like in the tests of a Parquet file


_ENCODER = json.JSONEncoder(sort_keys=True, default=_plain)
