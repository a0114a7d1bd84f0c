"""From a source of rows to tokenized splits: variant, split, tokens, and an account of the rest."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from tqdm.auto import tqdm

from ift_lightning.data.json_stream import OnBad
from ift_lightning.data.token_cache import TokenCache, TokenCacheWriter, TokenizedData
from ift_lightning.errors import BadRowError, UserError
from ift_lightning.types import (
    NO_REASONING,
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
        variant_counts: What ``variant`` did, by kind, as far as it has gone; kept with the tokens.
        skip_bad_rows: Go on without bad rows. Otherwise any bad row stops the run.
        required_levels: Levels of reasoning that a comparison is about, "none" among them. A row
            without the reasoning of each is left out, which stops nothing.
        level_builders: Builder of each of these levels. A row that one of them refuses is a bad
            row at every level, so that all arms of the comparison have the same rows.
    """

    variant: Callable[[InstructionRecord], InstructionRecord]
    variant_name: str
    split_of: Callable[[str], str]
    split_key: Any
    limits: Mapping[str, int | None] = field(default_factory=dict)
    variant_counts: Mapping[str, int] = field(default_factory=dict)
    skip_bad_rows: bool = False
    required_levels: Sequence[str] = ()
    level_builders: Mapping[str, Builder] = field(default_factory=dict)

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
                list(self.required_levels),
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

        num_filtered = 0

        def leave_out(row: RejectedRow) -> None:
            nonlocal num_filtered
            num_filtered += 1
            writer.reject(row)

        candidates = self.records(source, reject, leave_out)
        with tqdm(
            candidates, desc="tokenizing", unit=" rows", delay=2, disable=not progress_bar
        ) as bar:
            # One iterator for all blocks: each iter() of a progress bar would begin a new one.
            rows = iter(bar)
            while block := list(islice(rows, _BLOCK)):
                self._tokenize(block, builder, writer, reject)
        writer.variant_counts = dict(self.variant_counts)
        num_kept = sum(writer.num_rows.values())
        num_bad = writer.num_rejected - num_filtered
        if num_kept and (self.skip_bad_rows or not num_bad):
            return
        _copy(writer.flushed_rejected(), rejected_path)
        if num_filtered and not num_bad:
            raise UserError(
                f"none of {_count(num_filtered)} has the reasoning that data.require_levels="
                f"[{','.join(self.required_levels)}] asks for; see {rejected_path}. Write it with "
                "python -m ift_lightning.prepare task=generate_cot"
            )
        if not writer.num_rejected:
            raise UserError("there are no rows: look at data.num_train, num_val and num_test")
        if self.skip_bad_rows:
            raise UserError(
                f"no row is left to train on: {_count(num_bad)} cannot be used:\n  "
                + "\n  ".join(shown)
                + f"\nAll of them are in {rejected_path}"
            )
        raise UserError(_bad_rows_message(shown, num_bad, num_kept, rejected_path))

    def records(
        self, source: RecordSource, reject: OnBad, leave_out: OnBad | None = None
    ) -> Iterator[tuple[str, RawRow, InstructionRecord]]:
        """Yield split, raw row and record of every row within the limits, before tokenizing.

        Args:
            source: Rows.
            reject: Takes each row that cannot be used.
            leave_out: Takes each row without the levels compared; None hands it to ``reject``.
        """
        leave_out = leave_out or reject
        seen: dict[str, int] = {}
        for raw, original in source.records(reject):
            missing = [
                level
                for level in self.required_levels
                if level != NO_REASONING and not original.reasoning.get(level, "").strip()
            ]
            if missing:
                leave_out(
                    RejectedRow(raw.location, _missing(missing), "reasoning", dict(raw.values))
                )
                continue
            split = raw.split or self.split_of(original.id)
            seen[split] = seen.get(split, 0) + 1
            limit = self.limits.get(split)
            if limit is not None and seen[split] > limit:
                continue
            try:
                yield split, raw, self.variant(original)
            except BadRowError as error:
                reject(RejectedRow(raw.location, str(error), error.field, dict(raw.values)))

    def _tokenize(
        self,
        block: list[tuple[str, RawRow, InstructionRecord]],
        builder: Builder,
        writer: TokenCacheWriter,
        reject: OnBad,
    ) -> None:
        records = [record for _, _, record in block]
        examples = builder.build(records)
        by_level = {
            level: examples if each is builder else each.build(records)
            for level, each in self.level_builders.items()
        }
        for index, ((split, raw, record), example) in enumerate(zip(block, examples, strict=True)):
            others = {level: built[index] for level, built in by_level.items()}
            problem = _first_problem(example, others)
            if problem is not None:
                reject(RejectedRow(raw.location, str(problem), problem.field, dict(raw.values)))
                continue
            assert isinstance(example, TokenizedExample)
            writer.add(split, record, example)
            if split == "train":
                counts = writer.num_target_tokens_by_level
                for level, other in others.items():
                    assert isinstance(other, TokenizedExample)
                    counts[level] = counts.get(level, 0) + other.num_target_tokens


def _missing(levels: Sequence[str]) -> str:
    return (
        f"no reasoning at {' and '.join(repr(level) for level in levels)}; data.require_levels "
        "keeps only rows that have every level compared"
    )


def _first_problem(
    example: TokenizedExample | BadRowError, others: Mapping[str, TokenizedExample | BadRowError]
) -> BadRowError | None:
    """Return why a row cannot be used: at its own level, or at one that it is compared with."""
    if isinstance(example, BadRowError):
        return example
    for level, other in others.items():
        if isinstance(other, BadRowError):
            return BadRowError(
                f"the row cannot be used at cot_level={level}, which this run is compared with "
                f"(data.require_levels): {other}",
                field=other.field,
            )
    return None


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
