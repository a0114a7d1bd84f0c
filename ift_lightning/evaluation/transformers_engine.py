"""Generates with a Hugging Face model, in batches whose make-up does not change the outcome.

Prompts are sorted by length and padded on the left. What all prompts begin with, and an adapter's
virtual tokens, is read once. The samples of a prompt share its reading. Rows that have ended leave
their batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from tqdm.auto import tqdm

from ift_lightning.errors import UserError
from ift_lightning.evaluation.decoding_model import DecodingModel
from ift_lightning.evaluation.generation import (
    Completion,
    Decoding,
    FinishReason,
    Prompt,
    common_prefix_length,
    cut_at_stop,
    uniform_draws,
)
from ift_lightning.evaluation.key_value_cache import BufferedCache

_LOOK_EVERY = 8  # tokens between two searches for stop strings
_LEAVE_SHARE = 0.8  # of a batch that is still going: below it, the rows that ended leave


@dataclass(slots=True)
class _Row:
    """One sample that is being generated."""

    prompt: Prompt
    sample: int
    max_new_tokens: int
    draws: npt.NDArray[np.float64] | None = None  # one for each token; None: the likeliest token
    ids: list[int] = field(default_factory=list)
    done: Completion | None = None


class TransformersEngine:
    """Generates with a Hugging Face model or a PEFT model.

    Args:
        model: The model.
        tokenizer: Its tokenizer.
        batch_size: Samples that are generated together, at most.
        progress_bar: Show one.
        description: Stands before the bar.
    """

    name = "transformers"

    def __init__(
        self,
        model: DecodingModel,
        tokenizer: Any,
        *,
        batch_size: int = 64,
        progress_bar: bool = True,
        description: str = "generating",
    ) -> None:
        if batch_size < 1:
            raise UserError(f"generation.batch_size={batch_size} has to be at least 1")
        self.model = model
        self.tokenizer = tokenizer
        self.batch_size = batch_size
        self.progress_bar = progress_bar
        self.description = description
        # SentencePiece-style decoders lose a blank at the beginning of a text, and an indented
        # line with it; behind a context they do not.
        self._context_ids = list(tokenizer.encode("x", add_special_tokens=False))
        self._context = self._text(self._context_ids)

    def generate(self, prompts: Sequence[Prompt], decoding: Decoding) -> Iterator[Completion]:
        """Yield ``decoding.num_samples`` completions of each prompt, batch by batch.

        Raises:
            UserError: A prompt leaves the model no room for an answer.
        """
        if not prompts:
            return
        for prompt in prompts:
            if not prompt.input_ids:
                raise UserError(f"row '{prompt.id}': its prompt has no tokens")
        total = len(prompts) * decoding.num_samples
        with (
            tqdm(
                total=total,
                desc=self.description,
                unit=" answers",
                delay=1,
                leave=False,
                disable=not self.progress_bar,
            ) as bar,
            self.model.generating(),
        ):
            shared = common_prefix_length([prompt.input_ids for prompt in prompts])
            prefix = self._read_prefix(prompts[0].input_ids[:shared])
            num_virtual = prefix.get_seq_length() - shared
            room = {prompt.id: self._room(prompt, num_virtual, decoding) for prompt in prompts}
            for batch in self._batches(prompts, decoding, num_virtual):
                for completion in self._generate_batch(batch, prefix, shared, room, decoding):
                    bar.update()
                    yield completion

    def stream(self, prompt: Prompt, decoding: Decoding) -> Iterator[str]:
        """Yield the text so far after each token; the last one is the whole completion."""
        with self.model.generating():
            prefix = self.model.new_cache(len(prompt.input_ids))
            room = self._room(prompt, prefix.get_seq_length(), decoding)
            row = self._rows(prompt, decoding, room)[0]
            state = _Batch(self, [prompt], prefix, 0, decoding)
            state.begin([row])
            while row.done is None:
                state.step(look_for_stop=True)
                if row.done is None:
                    yield self.decode(row.ids)
            yield row.done.text

    def _read_prefix(self, ids: Sequence[int]) -> BufferedCache:
        """Return a cache of one row with virtual tokens and ``ids``."""
        cache = self.model.new_cache(len(ids))
        start = cache.get_seq_length()
        if ids:
            row = torch.tensor([list(ids)], device=self.model.device)
            mask = torch.ones(1, start + len(ids), dtype=torch.int64, device=row.device)
            positions = torch.arange(start, start + len(ids), device=row.device)[None]
            self.model.read(row, cache, mask, positions)
        return cache

    def _room(self, prompt: Prompt, num_virtual: int, decoding: Decoding) -> int:
        """Return how many tokens the completion of a prompt may have."""
        limit = self.model.max_positions
        if limit is None:
            return decoding.max_new_tokens
        room = limit - num_virtual - len(prompt.input_ids)
        if room < 1:
            raise UserError(
                f"row '{prompt.id}': its prompt has {len(prompt.input_ids)} tokens, and the model "
                f"reads at most {limit - num_virtual}, the answer included; leave the row out, or "
                "cut prompts with data.overflow=cut_prompt"
            )
        return min(room, decoding.max_new_tokens)

    def _batches(
        self, prompts: Sequence[Prompt], decoding: Decoding, num_virtual: int
    ) -> Iterator[list[Prompt]]:
        """Yield prompts that are generated together: of similar length, the longest first."""
        ordered = sorted(prompts, key=lambda prompt: (-len(prompt.input_ids), prompt.id))
        size = max(1, self.batch_size // decoding.num_samples)
        window = self.model.window
        longest = num_virtual + len(ordered[0].input_ids) + decoding.max_new_tokens
        # Padding between the shared beginning and a prompt counts in a sliding window.
        same_length = window is not None and longest > window
        batch: list[Prompt] = []
        for prompt in ordered:
            differs = same_length and batch and len(batch[0].input_ids) != len(prompt.input_ids)
            if len(batch) == size or differs:
                yield batch
                batch = []
            batch.append(prompt)
        yield batch

    def _generate_batch(
        self,
        prompts: list[Prompt],
        prefix: BufferedCache,
        shared: int,
        room: dict[str, int],
        decoding: Decoding,
    ) -> Iterator[Completion]:
        rows = [row for prompt in prompts for row in self._rows(prompt, decoding, room[prompt.id])]
        state = _Batch(self, prompts, prefix, shared, decoding)
        for start in range(0, len(rows), self.batch_size):
            part = rows[start : start + self.batch_size]
            state.begin(part)
            steps = 0
            while state.rows:
                steps += 1
                state.step(look_for_stop=bool(decoding.stop) and steps % _LOOK_EVERY == 0)
            for row in part:
                assert row.done is not None
                yield row.done

    @staticmethod
    def _rows(prompt: Prompt, decoding: Decoding, room: int) -> list[_Row]:
        return [
            _Row(
                prompt,
                sample,
                room,
                uniform_draws(decoding, prompt.id, sample) if decoding.do_sample else None,
            )
            for sample in range(decoding.num_samples)
        ]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of tokens that stand inside a text."""
        return self._text([*self._context_ids, *ids])[len(self._context) :]

    def _text(self, ids: list[int]) -> str:
        text: str = self.tokenizer.decode(
            ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return text


class _Batch:
    """Prompts that were read together, and the samples that are being written behind them.

    Args:
        engine: Whose model and tokenizer are used.
        prompts: Read at once, padded on the left.
        prefix: Cache of one row with what all prompts begin with.
        shared: Ids of each prompt that ``prefix`` holds.
        decoding: How tokens are chosen.
    """

    def __init__(
        self,
        engine: TransformersEngine,
        prompts: Sequence[Prompt],
        prefix: BufferedCache,
        shared: int,
        decoding: Decoding,
    ) -> None:
        self.engine = engine
        self.decoding = decoding
        self.rows: list[_Row] = []  # still going, in the order of the cache's rows
        self._place = {prompt.id: index for index, prompt in enumerate(prompts)}
        self._end_ids = frozenset(decoding.end_token_ids)
        self._tail = max((len(word.encode()) for word in decoding.stop), default=0) + _LOOK_EVERY
        device = engine.model.device
        past = prefix.get_seq_length()
        longest = max(len(prompt.input_ids) for prompt in prompts) - shared
        ids = torch.zeros(len(prompts), longest, dtype=torch.int64)
        mask = torch.ones(len(prompts), past + longest, dtype=torch.int64)
        for index, prompt in enumerate(prompts):
            own = prompt.input_ids[shared:]
            ids[index, longest - len(own) :] = torch.tensor(own)
            mask[index, past : past + longest - len(own)] = 0
        positions = (mask.cumsum(dim=1) - 1)[:, past:].clamp(min=0)
        self._mask, self._positions = mask.to(device), positions[:, -1].to(device)
        zeros = torch.zeros(len(prompts), dtype=torch.int64, device=device)
        self._cache = prefix.copy_rows(zeros, past + longest)
        self._logits = engine.model.read(
            ids.to(device), self._cache, self._mask, positions.to(device)
        )

    def begin(self, rows: Sequence[_Row]) -> None:
        """Start writing samples of the prompts."""
        self.rows = list(rows)
        places = [self._place[row.prompt.id] for row in rows]
        chosen = torch.tensor(places, device=self._mask.device)
        past = self._cache.get_seq_length()
        room = max(row.max_new_tokens for row in rows)
        self._live_cache = self._cache.copy_rows(chosen, past + room)
        self._live_logits = self._logits[chosen]
        # Ones to the right stand for what is going to be written.
        ones = self._mask.new_ones(len(rows), room)
        self._live_mask = torch.cat([self._mask[chosen], ones], dim=1)
        self._live_positions = self._positions[chosen]
        self._last = torch.zeros_like(chosen)

    def step(self, *, look_for_stop: bool) -> None:
        """Add a token to each row; rows that have ended get their completion, and may leave."""
        tokens = self._choose()
        self._last = tokens
        for row, token in zip(self.rows, tokens.tolist(), strict=True):
            if row.done is not None:
                continue
            if token in self._end_ids:
                self._finish(row, FinishReason.STOP)
                continue
            row.ids.append(token)
            if len(row.ids) >= row.max_new_tokens:
                self._finish(row, FinishReason.LENGTH)
            elif look_for_stop and self._has_stop(row.ids[-self._tail - 1 :]):
                self._finish(row, FinishReason.STOP)
        going = [index for index, row in enumerate(self.rows) if row.done is None]
        if not going:
            self.rows = []
            return
        if len(going) < len(self.rows) * _LEAVE_SHARE:
            self._keep(going)
        self._live_positions = self._live_positions + 1
        length = self._live_cache.get_seq_length() + 1
        self._live_logits = self.engine.model.read(
            self._last[:, None],
            self._live_cache,
            self._live_mask[:, :length],
            self._live_positions[:, None],
        )

    def _choose(self) -> torch.Tensor:
        """Return the next token of each row, int64 [B]."""
        logits = self._live_logits
        if not self.decoding.do_sample:
            return logits.argmax(dim=-1)
        draws = [0.0 if row.draws is None or row.done else row.draws[len(row.ids)]
                 for row in self.rows]  # fmt: skip
        drawn = torch.tensor(draws, dtype=torch.float64, device=logits.device)
        return draw_tokens(logits, drawn, self.decoding.temperature, self.decoding.top_p)

    def _keep(self, going: list[int]) -> None:
        chosen = torch.tensor(going, device=self._last.device)
        self.rows = [self.rows[index] for index in going]
        self._live_cache.batch_select_indices(chosen)
        self._live_mask = self._live_mask[chosen]
        self._live_positions = self._live_positions[chosen]
        self._last = self._last[chosen]

    def _has_stop(self, ids: Sequence[int]) -> bool:
        return cut_at_stop(self.engine.decode(ids), self.decoding.stop) is not None

    def _finish(self, row: _Row, reason: FinishReason) -> None:
        text = self.engine.decode(row.ids)
        # Searches are a few tokens apart, and a row may end between two of them.
        before = cut_at_stop(text, self.decoding.stop)
        if before is not None:
            text, reason = before, FinishReason.STOP
        row.done = Completion(row.prompt.id, row.sample, text, reason, len(row.ids))


def draw_tokens(
    logits: torch.Tensor, draws: torch.Tensor, temperature: float, top_p: float
) -> torch.Tensor:
    """Return the token at each row's draw, by inversion of the cumulative distribution.

    Args:
        logits: float32 [B, V].
        draws: In [0, 1), float64 [B].
        temperature: Divides the logits.
        top_p: Tokens are left out once more likely ones reach this share together.

    Returns:
        int64 [B].
    """
    probabilities = (logits.double() / temperature).softmax(dim=-1)
    if top_p < 1:
        ordered, order = probabilities.sort(dim=-1, descending=True, stable=True)
        # The most likely token has nothing before it, and always stays.
        left_out = ordered.cumsum(dim=-1) - ordered >= top_p
        probabilities = probabilities.masked_fill(
            torch.zeros_like(left_out).scatter(1, order, left_out), 0.0
        )
    # Over ids, not over ranks: two tokens of nearly equal weight may swap ranks with the batch.
    cumulative = probabilities.cumsum(dim=-1)
    target = draws[:, None] * cumulative[:, -1:]
    tokens = torch.searchsorted(cumulative, target, right=True)[:, 0]
    return tokens.clamp(max=logits.shape[-1] - 1)
