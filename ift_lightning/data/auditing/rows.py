"""One row's part of an audit."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from ift_lightning.data.auditing.overlap import NgramIndex
from ift_lightning.data.comments import canonical_language
from ift_lightning.data.comments.guessing import guess_language
from ift_lightning.data.normalized_text import answer_text, request_text, text_key
from ift_lightning.errors import BadRowError
from ift_lightning.types import InstructionRecord, TokenizedExample

_FENCE = re.compile(r"^[ \t]*(?:```|~~~)[ \t]*([\w+#.-]+)", re.MULTILINE)


class Builder(Protocol):
    """Makes token ids of records."""

    def build(
        self, records: Sequence[InstructionRecord]
    ) -> list[TokenizedExample | BadRowError]: ...


@dataclass(frozen=True, slots=True)
class RowFacts:
    """What an audit keeps of a row; ``length`` and ``num_targets`` are in tokens, before cutting.

    Args:
        problem: Why the row cannot be trained on; "" where it can.
        is_too_long: Whether the row is longer than the limit.
        num_cut: Prompt tokens that are cut to fit.
        benchmark: Id of the benchmark problem that it shares a run of words with.
    """

    id: str
    split: str
    place: str
    length: int
    num_targets: int
    end_is_supervised: bool
    is_too_long: bool
    num_cut: int
    problem: str
    exact_key: bytes
    row_key: bytes
    request_key: bytes
    language: str
    language_source: str  # "row", "fence", "guess" or ""
    category: str
    subtype: str
    benchmark: str | None


@dataclass(frozen=True)
class RowAuditor:
    """Measures rows, in any process.

    Args:
        builder: As training builds its examples.
        whole_builder: The same, without a limit of length.
        benchmark: Runs of words to look for.
    """

    builder: Builder
    whole_builder: Builder
    max_seq_length: int
    benchmark: NgramIndex | None = None

    def __call__(self, rows: list[tuple[str, str, InstructionRecord]]) -> list[RowFacts]:
        """Return the facts of rows, each given as split, place and record."""
        examples = self.whole_builder.build([record for _, _, record in rows])
        facts = []
        for (split, place, record), example in zip(rows, examples, strict=True):
            num_cut, problem, length = 0, "", 0
            if isinstance(example, BadRowError):
                problem = str(example)
            else:
                length = len(example.input_ids)
            is_too_long = length > self.max_seq_length
            if is_too_long:
                # The rare long row is built again, as training would.
                cut = self.builder.build([record])[0]
                if isinstance(cut, BadRowError):
                    problem = str(cut)
                else:
                    num_cut = cut.num_cut_tokens
            whole = None if isinstance(example, BadRowError) else example
            facts.append(self._facts(split, place, record, whole, (is_too_long, num_cut, problem)))
        return facts

    def _facts(
        self,
        split: str,
        place: str,
        record: InstructionRecord,
        example: TokenizedExample | None,
        fit: tuple[bool, int, str],
    ) -> RowFacts:
        request, answer = request_text(record), answer_text(record)
        text = f"{request}\n{answer}"
        is_too_long, num_cut, problem = fit
        language, source = _language(record, request, answer)
        return RowFacts(
            id=record.id,
            split=split,
            place=place,
            length=len(example.input_ids) if example else 0,
            num_targets=example.num_target_tokens if example else 0,
            end_is_supervised=example.end_is_supervised if example else False,
            is_too_long=is_too_long,
            num_cut=num_cut,
            problem=problem,
            exact_key=hashlib.blake2b(
                text.encode("utf-8", "surrogatepass"), digest_size=16
            ).digest(),
            row_key=text_key(text),
            request_key=text_key(request),
            language=language,
            language_source=source,
            category=record.category,
            subtype=record.subtype,
            benchmark=self.benchmark.problem_in(text) if self.benchmark else None,
        )


def _language(record: InstructionRecord, request: str, answer: str) -> tuple[str, str]:
    """Return a row's language and how it is known."""
    if record.language:
        return record.language, "row"
    language = _fence_language(f"{request}\n{answer}")
    if language:
        return language, "fence"
    guess = guess_language(answer, request)
    return (guess.language, "guess") if guess else ("", "")


def _fence_language(text: str) -> str:
    """Return the language of the first code fence that names one."""
    for match in _FENCE.finditer(text):
        language = canonical_language(match.group(1))
        if language:
            return language
    return ""
