"""From a source of rows to tokenized splits: variant, split, tokens, and an account of the rest."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from tqdm.auto import tqdm

from ift_lightning.data.json_stream import OnBad
from ift_lightning.data.token_cache import TokenCache, TokenCacheWriter, TokenizedData
from ift_lightning.errors import BadRowError, UserError
from ift_lightning.types import (
    InstructionRecord,
    RawRow,
    RejectedRow,
    TokenizedExample,
    json_fingerprint,
)

_BLOCK = 512  # rows tokenized in one call
_SHOWN = 8  # bad rows spelled out in an error message


class RecordSource(Protocol):
    """Where records come from."""

    fingerprint: str
    """Identifies the rows' content; empty where it is not known before reading."""

    def records(self, on_bad: OnBad) -> Iterator[tuple[RawRow, InstructionRecord]]:
        """Yield rows with their records; hand over what cannot be one."""
        ...


class Builder(Protocol):
    """Makes token ids of records."""

    def build(self, records: list[InstructionRecord]) -> list[TokenizedExample | BadRowError]: ...


@dataclass
class DataPreparation:
    """Everything that decides what a run trains on, apart from the source and the tokenizer.

    Args:
        variant: Record to record.
        variant_name: Part of the cache's key.
        split_of: Row id to "train", "val" or "test"; a row's own split comes first.
        split_key: Identifies ``split_of`` in the cache's key.
        limits: At most so many rows of a split, in the order of reading. A row that is rejected
            later still counts, so that arms of a comparison look at the same rows.
        skip_bad_rows: Go on without bad rows. Otherwise any bad row stops the run.
    """

    variant: Callable[[InstructionRecord], InstructionRecord]
    variant_name: str
    split_of: Callable[[str], str]
    split_key: Any
    limits: Mapping[str, int | None] = field(default_factory=dict)
    skip_bad_rows: bool = False

    def run(
        self,
        source: RecordSource,
        builder: Builder,
        builder_key: Any,
        cache: TokenCache,
        rejected_path: Path,
        *,
        progress_bar: bool = True,
    ) -> TokenizedData:
        """Return the tokenized splits, from the cache where it has them.

        Args:
            source: Rows.
            builder: Makes token ids of records.
            builder_key: JSON value that identifies template, tokenizer, weights and length.
            cache: Where tokens are kept.
            rejected_path: Written where any row was left out.
            progress_bar: Show progress after two seconds.

        Raises:
            UserError: Bad rows, with all of them in ``rejected_path``; or no rows to train on.
        """
        key = json_fingerprint(
            [
                source.fingerprint,
                self.variant_name,
                self.split_key,
                dict(self.limits),
                self.skip_bad_rows,
                builder_key,
            ]
        )
        data = cache.open(key) if source.fingerprint else None
        if data is None:
            data = cache.make(
                key,
                lambda writer: self._fill(writer, source, builder, rejected_path, progress_bar),
                by_content=not source.fingerprint,
            )
        rejected_path.unlink(missing_ok=True)  # of an earlier try in the same folder
        if data.num_rejected:
            _copy(data.rejected_path, rejected_path)
        return data

    def _fill(
        self,
        writer: TokenCacheWriter,
        source: RecordSource,
        builder: Builder,
        rejected_path: Path,
        progress_bar: bool,
    ) -> None:
        shown: list[str] = []

        def reject(row: RejectedRow) -> None:
            if len(shown) < _SHOWN:
                where = f", field '{row.field}'" if row.field else ""
                shown.append(f"{row.location}{where}: {row.reason}")
            writer.reject(row)

        candidates = self.records(source, reject)
        with tqdm(
            candidates, desc="tokenizing", unit=" rows", delay=2, disable=not progress_bar
        ) as bar:
            # One iterator for all blocks: each iter() of a progress bar would begin a new one.
            rows = iter(bar)
            while block := list(islice(rows, _BLOCK)):
                self._tokenize(block, builder, writer, reject)
        num_kept = sum(writer.num_rows.values())
        if num_kept and (self.skip_bad_rows or not writer.num_rejected):
            return
        _copy(writer.flushed_rejected(), rejected_path)
        if not writer.num_rejected:
            raise UserError("there are no rows: look at data.num_train, num_val and num_test")
        if self.skip_bad_rows:
            raise UserError(
                f"no row is left to train on: {_count(writer.num_rejected)} cannot be used:\n  "
                + "\n  ".join(shown)
                + f"\nAll of them are in {rejected_path}"
            )
        raise UserError(_bad_rows_message(shown, writer.num_rejected, num_kept, rejected_path))

    def records(
        self, source: RecordSource, reject: OnBad
    ) -> Iterator[tuple[str, RawRow, InstructionRecord]]:
        """Yield split, raw row and record of every row within the limits, before tokenizing.

        Args:
            source: Rows.
            reject: Takes each row that cannot be used.
        """
        seen: dict[str, int] = {}
        for raw, original in source.records(reject):
            split = raw.split or self.split_of(original.id)
            seen[split] = seen.get(split, 0) + 1
            limit = self.limits.get(split)
            if limit is not None and seen[split] > limit:
                continue
            try:
                yield split, raw, self.variant(original)
            except BadRowError as error:
                reject(RejectedRow(raw.location, str(error), error.field, dict(raw.values)))

    @staticmethod
    def _tokenize(
        block: list[tuple[str, RawRow, InstructionRecord]],
        builder: Builder,
        writer: TokenCacheWriter,
        reject: OnBad,
    ) -> None:
        examples = builder.build([record for _, _, record in block])
        for (split, raw, record), example in zip(block, examples, strict=True):
            if isinstance(example, BadRowError):
                reject(RejectedRow(raw.location, str(example), example.field, dict(raw.values)))
            else:
                writer.add(split, record, example)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def _count(num_rows: int) -> str:
    return "1 row" if num_rows == 1 else f"{num_rows} rows"


def _bad_rows_message(shown: Iterable[str], num_bad: int, num_good: int, path: Path) -> str:
    lines = "\n  ".join(shown)
    return (
        f"{_count(num_bad)} cannot be used ({num_good} can):\n  {lines}\n"
        f"All of them are in {path}. Correct them, or leave them out with data.bad_rows=skip"
    )
