"""Batches of plain text for pretraining, each a pure function of the seed and its number."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import lightning as L
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from ift_lightning.data.datamodule import ResumableLoader, own_generator
from ift_lightning.data.drills import generate_pretraining_texts
from ift_lightning.data.pretraining.library import library_texts

_CURRICULUM = ((0.25, 1), (0.6, 2), (1.0, 3))
"""Up to which share of the curriculum functions have at most how many steps."""

_MAX_STEPS = 5
_TEXTS_AT_ONCE = 64


def max_steps_at(progress: float, curriculum: float) -> int:
    """Return how many steps a function may have: one, two, three, then up to five.

    Args:
        progress: Share of the run that is done.
        curriculum: Share of the run after which all functions are allowed.
    """
    if curriculum > 0:
        for until, max_steps in _CURRICULUM:
            if progress < curriculum * until:
                return max_steps
    return _MAX_STEPS


class PretrainingBatches(Dataset[torch.Tensor]):
    """Batches of rows packed with whole texts, each from BOS to EOS, the last one cut off.

    Args:
        tokenizer: Puts BOS first.
        rows_per_batch: ``B``.
        block_length: ``T``, tokens of a row.
        num_batches: Batches of the run, which the curriculum is stretched over.
        seed: Of all texts.
        library_share: Share of the rows that are a stretch of the standard library instead.
        curriculum: See :func:`max_steps_at`.
    """

    def __init__(
        self,
        tokenizer: Any,
        *,
        rows_per_batch: int,
        block_length: int,
        num_batches: int,
        seed: int,
        library_share: float,
        curriculum: float,
    ) -> None:
        self.tokenizer = tokenizer
        self.rows_per_batch = rows_per_batch
        self.block_length = block_length
        self.num_batches = num_batches
        self.seed = seed
        self.library_share = library_share
        self.curriculum = curriculum
        self._library: list[int] = []
        if library_share > 0:
            for text in library_texts():
                # A file is longer than what a model reads at once; blocks are cut out of it.
                ids = tokenizer(text, verbose=False).input_ids
                self._library += [*ids, tokenizer.eos_token_id]

    def __len__(self) -> int:
        return self.num_batches

    def __getitem__(self, index: int) -> torch.Tensor:
        """Return batch ``index``: int64 [B, T]."""
        max_steps = max_steps_at(index / self.num_batches, self.curriculum)
        rng = random.Random(f"{self.seed}-{index}")
        return torch.tensor([self._row(rng, max_steps) for _ in range(self.rows_per_batch)])

    def _row(self, rng: random.Random, max_steps: int) -> list[int]:
        if rng.random() < self.library_share:
            start = rng.randrange(len(self._library) - self.block_length)
            return self._library[start : start + self.block_length]
        row: list[int] = []
        texts = generate_pretraining_texts(
            _TEXTS_AT_ONCE, seed=rng.getrandbits(48), max_steps=max_steps
        )
        while len(row) < self.block_length:
            row += [*self.tokenizer(next(texts)).input_ids, self.tokenizer.eos_token_id]
        return row[: self.block_length]


class _FromBatch(Sampler[int]):
    """The numbers of a run's batches, from ``first`` on."""

    def __init__(self, num_batches: int) -> None:
        self.num_batches = num_batches
        self.first = 0

    def __len__(self) -> int:
        return self.num_batches

    def __iter__(self) -> Any:
        return iter(range(self.first, self.num_batches))


class PretrainingDataModule(L.LightningDataModule):
    """Wires batches to loaders; training goes on with the next batch when it is resumed.

    Args:
        train: Batches of the run.
        val: Batches of other seeds, to measure the loss on.
        num_workers: Processes that make batches; 0 for none.
    """

    def __init__(
        self, train: PretrainingBatches, val: Sequence[torch.Tensor], num_workers: int = 0
    ) -> None:
        super().__init__()
        self.train = train
        self.val = val
        self.num_workers = num_workers

    def train_dataloader(self) -> ResumableLoader:
        return ResumableLoader(
            self.train,
            sampler=_FromBatch(len(self.train)),
            batch_size=None,
            num_workers=self.num_workers,
            generator=own_generator(),
        )

    def val_dataloader(self) -> DataLoader[torch.Tensor]:
        batches: Any = self.val
        return DataLoader(batches, batch_size=None, generator=own_generator())
