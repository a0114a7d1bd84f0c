"""Token ids of segments, made segment by segment so that role boundaries are exact."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ift_lightning.errors import UserError
from ift_lightning.types import Segment

# Characters that stand in front of a segment while it is tokenized, see `SegmentTokenizer`.
_SENTINELS = ("\n", "=", ";", "。")


@dataclass(frozen=True, slots=True)
class SegmentTokens:
    """Tokens of one segment; ``offsets[i]`` is the half-open span of characters of token ``i``.

    ``offsets`` is empty where they were not asked for.
    """

    segment: Segment
    input_ids: list[int]
    offsets: list[tuple[int, int]]


class SegmentTokenizer:
    """Tokenizes segments of one text without letting tokens cross their boundaries.

    SentencePiece-style tokenizers put a blank before every text that they are given, also before
    a segment in the middle of one. Such a segment is therefore tokenized behind a sentinel
    character, whose token is dropped.

    Args:
        tokenizer: A fast Hugging Face tokenizer.
        add_bos: Begin with BOS if the tokenizer itself would.

    Raises:
        UserError: The tokenizer is not a fast one, so that it knows no offsets.
    """

    def __init__(self, tokenizer: Any, *, add_bos: bool = True) -> None:
        if not getattr(tokenizer, "is_fast", False):
            raise UserError(
                f"the tokenizer of '{tokenizer.name_or_path}' has no fast version (tokenizer.json),"
                " which exact loss masks need; convert it with AutoTokenizer.from_pretrained(…,"
                " use_fast=True).save_pretrained(…)"
            )
        self.tokenizer = tokenizer
        self.bos_ids = self._own_bos_ids() if add_bos else []
        alone, behind = self._ids(["x", "\nx"])
        self._adds_prefix_space = behind[-len(alone) :] != alone
        self._context_ids = alone
        self._context = self._decode(alone)
        self._special_tokens = self._special_token_pattern()

    def _own_bos_ids(self) -> list[int]:
        bos = self.tokenizer.bos_token_id
        ids = self.tokenizer("x", add_special_tokens=True)["input_ids"]
        return [bos] if bos is not None and ids[:1] == [bos] else []

    def _special_token_pattern(self) -> re.Pattern[str] | None:
        # The named special tokens (EOS, ...) are not all: control tokens of a chat template are
        # often only in the table of added tokens. A single character is left to the text.
        added = self.tokenizer.added_tokens_decoder.values()
        tokens = {token.content for token in added if token.special}
        tokens |= {str(token) for token in self.tokenizer.all_special_tokens}
        # Longest first, so that a message names the whole token.
        words = sorted((token for token in tokens if len(token) > 1), key=len, reverse=True)
        return re.compile("|".join(map(re.escape, words))) if words else None

    def _ids(self, texts: list[str]) -> list[list[int]]:
        ids: list[list[int]] = self.tokenizer(texts, add_special_tokens=False)["input_ids"]
        return ids

    def special_token_in(self, text: str) -> str | None:
        """Return a special token that ``text`` spells out, which would be read as that token."""
        match = self._special_tokens.search(text) if self._special_tokens else None
        return match.group() if match else None

    def encode(
        self, rows: Sequence[Sequence[Segment]], *, with_offsets: bool = True
    ) -> list[list[SegmentTokens]]:
        """Tokenize many rows at once.

        Args:
            rows: Segments of each row.
            with_offsets: Give the offsets of the tokens, which take their time.

        Returns:
            Tokens of each segment of each row, without BOS.
        """
        texts, is_inner = [], []
        for row in rows:
            for index, segment in enumerate(row):
                is_inner.append(self._adds_prefix_space and index > 0)
                texts.append(_SENTINELS[0] + segment.text if is_inner[-1] else segment.text)
        if not texts:
            return [[] for _ in rows]
        encoded = self.tokenizer(
            texts,
            add_special_tokens=False,
            return_offsets_mapping=with_offsets or self._adds_prefix_space,
            return_attention_mask=False,
        )
        all_ids = encoded["input_ids"]
        all_offsets = encoded.get("offset_mapping") or [[]] * len(texts)
        results: list[list[SegmentTokens]] = []
        position = 0
        for row in rows:
            tokens = []
            for segment in row:
                ids, offsets = all_ids[position], all_offsets[position]
                if is_inner[position]:
                    ids, offsets = self._without_sentinel(segment.text, ids, offsets)
                tokens.append(SegmentTokens(segment, ids, offsets))
                position += 1
            results.append(tokens)
        return results

    def _without_sentinel(
        self, text: str, ids: list[int], offsets: list[tuple[int, int]]
    ) -> tuple[list[int], list[tuple[int, int]]]:
        """Drop the sentinel's tokens; try another sentinel where it grew together with the text."""
        for sentinel in _SENTINELS:
            if sentinel != _SENTINELS[0]:
                encoded = self.tokenizer(
                    sentinel + text, add_special_tokens=False, return_offsets_mapping=True
                )
                ids, offsets = encoded["input_ids"], encoded["offset_mapping"]
            # Where the tokenizer's own blank has a token, its span is empty or the sentinel's.
            first = next((i for i, (_, stop) in enumerate(offsets) if stop > 1), len(ids))
            if first == len(ids) or offsets[first][0] >= 1:
                return ids[first:], [(a - 1, b - 1) for a, b in offsets[first:]]
        raise UserError(
            f"the tokenizer of '{self.tokenizer.name_or_path}' cannot tokenize the segment "
            f"{text[:40]!r} on its own"
        )

    def spelling(self, tokens: SegmentTokens, *, is_first: bool) -> str:
        """Return the text that a segment's tokens stand for, where they stand.

        Args:
            tokens: Tokens of a segment.
            is_first: Whether the segment begins the text. Decoding loses a SentencePiece-style
                blank there, and nowhere else: inner segments are decoded behind a context.
        """
        if is_first:
            return self._decode(tokens.input_ids)
        return self._decode([*self._context_ids, *tokens.input_ids])[len(self._context) :]

    def _decode(self, ids: list[int]) -> str:
        text: str = self.tokenizer.decode(
            ids, skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        return text
