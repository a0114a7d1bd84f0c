"""Padding, data loaders, and the LightningDataModule that wires them to a plan of steps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import lightning as L
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from ift_lightning.data.batching import PlannedMicroBatch, StepPlanner, plan_evaluation
from ift_lightning.data.split_files import TokenizedSplit
from ift_lightning.types import Batch


def collate(split: TokenizedSplit, planned: PlannedMicroBatch, pad_token_id: int) -> Batch:
    """Return a micro-batch, padded on the right to its longest row.

    Args:
        split: Where the rows are.
        planned: Which rows.
        pad_token_id: Fills ``input_ids``; it is masked and has weight 0, so its value is free.
    """
    rows = [split.tokens(row) for row in planned.rows]
    longest = max(len(row_ids) for row_ids, _ in rows)
    input_ids = np.full((len(rows), longest), pad_token_id, dtype=np.int64)
    attention_mask = np.zeros((len(rows), longest), dtype=np.int64)
    loss_weights = np.zeros((len(rows), longest), dtype=np.float32)
    for index, (row_ids, row_weights) in enumerate(rows):
        length = len(row_ids)
        input_ids[index, :length] = row_ids
        attention_mask[index, :length] = 1
        if not planned.filler:
            loss_weights[index, :length] = row_weights
    return Batch(
        input_ids=torch.from_numpy(input_ids),
        attention_mask=torch.from_numpy(attention_mask),
        loss_weights=torch.from_numpy(loss_weights),
        step_weight=planned.step_weight,
        # A filler's row is another micro-batch's, where it counts.
        row_ids=() if planned.filler else tuple(split.id_of(row) for row in planned.rows),
    )


class MicroBatchDataset(Dataset[Batch]):
    """Maps a planned micro-batch, as if it were an index, to its tensors."""

    def __init__(self, split: TokenizedSplit, pad_token_id: int) -> None:
        self.split = split
        self.pad_token_id = pad_token_id

    def __getitem__(self, planned: Any) -> Batch:
        return collate(self.split, planned, self.pad_token_id)


class TrainingSampler(Sampler[PlannedMicroBatch]):
    """One rank's micro-batches of the whole run, from ``first`` on."""

    def __init__(self, planner: StepPlanner, rank: int, num_steps: int) -> None:
        self.planner = planner
        self.rank = rank
        self.num_micro_batches = num_steps * planner.micro_batches_per_step
        self.first = 0

    def __len__(self) -> int:
        return self.num_micro_batches

    def __iter__(self) -> Iterator[PlannedMicroBatch]:
        return self.planner.micro_batches(self.rank, self.first, self.num_micro_batches)


def own_generator() -> torch.Generator:
    """Return a generator for a loader to seed its workers from.

    Without one, every pass over a loader draws from the generator that dropout uses, and a resumed
    run, which validates less often, would draw other masks than an uninterrupted one.
    """
    return torch.Generator().manual_seed(0)


class ResumableLoader(DataLoader[Any]):
    """A DataLoader that knows how many batches it has handed out.

    Lightning saves and restores loaders that have ``state_dict`` and ``load_state_dict``, so that
    a run that is resumed goes on with the next batch, in the middle of an epoch too. The sampler
    has to begin at its ``first``.
    """

    sampler: Any

    def __iter__(self) -> Any:
        self.position = self.sampler.first
        for batch in super().__iter__():
            self.position += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        return {"position": getattr(self, "position", self.sampler.first)}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.sampler.first = state["position"]


class InstructionDataModule(L.LightningDataModule):
    """Wires tokenized splits to a plan of optimizer steps. It makes no decisions of its own.

    To Lightning, the whole run is one epoch: the planner knows where the epochs of the data end.

    Args:
        splits: "train", and "val" and "test" where they have rows.
        pad_token_id: See :func:`collate`.
        num_steps: Optimizer steps of the run.
        global_batch_size: Rows per optimizer step.
        micro_batch_size: Rows that go through the model at once, at most.
        eval_batch_size: The same, in evaluation.
        seed: Order of the training rows.
        shuffle_window: See :class:`StepPlanner`.
        num_workers: Processes that prepare batches; 0 for none.
    """

    def __init__(
        self,
        splits: dict[str, TokenizedSplit],
        *,
        pad_token_id: int,
        num_steps: int,
        global_batch_size: int,
        micro_batch_size: int,
        eval_batch_size: int = 32,
        seed: int = 0,
        shuffle_window: int = 1,
        num_workers: int = 0,
        max_target_tokens: int | None = None,
    ) -> None:
        super().__init__()
        self.splits = splits
        self.pad_token_id = pad_token_id
        self.num_steps = num_steps
        self.global_batch_size = global_batch_size
        self.micro_batch_size = micro_batch_size
        self.eval_batch_size = eval_batch_size
        self.seed = seed
        self.shuffle_window = shuffle_window
        self.num_workers = num_workers
        self.max_target_tokens = max_target_tokens

    def planner(self, world_size: int = 1) -> StepPlanner:
        """Return the plan of all optimizer steps."""
        train = self.splits["train"]
        return StepPlanner(
            train.lengths,
            train.weights,
            global_batch_size=self.global_batch_size,
            micro_batch_size=self.micro_batch_size,
            world_size=world_size,
            seed=self.seed,
            shuffle_window=self.shuffle_window,
            num_targets=train.num_targets if self.max_target_tokens is not None else None,
            max_target_tokens=self.max_target_tokens,
        )

    def _rank_and_world_size(self) -> tuple[int, int]:
        trainer = self.trainer
        return (trainer.global_rank, trainer.world_size) if trainer else (0, 1)

    def train_dataloader(self) -> ResumableLoader:
        rank, world_size = self._rank_and_world_size()
        return ResumableLoader(
            MicroBatchDataset(self.splits["train"], self.pad_token_id),
            sampler=TrainingSampler(self.planner(world_size), rank, self.num_steps),
            batch_size=None,
            num_workers=self.num_workers,
            generator=own_generator(),
        )

    def val_dataloader(self) -> DataLoader[Batch] | list[Any]:
        return self._evaluation_loader("val")

    def test_dataloader(self) -> DataLoader[Batch] | list[Any]:
        return self._evaluation_loader("test")

    def _evaluation_loader(self, split: str) -> DataLoader[Batch] | list[Any]:
        rows = self.splits.get(split)
        if rows is None or len(rows) == 0:
            return []
        rank, world_size = self._rank_and_world_size()
        plan = plan_evaluation(
            rows.lengths, batch_size=self.eval_batch_size, rank=rank, world_size=world_size
        )
        # A list of plans is a sampler as good as any: DataLoader only iterates over it.
        sampler: Any = plan
        return DataLoader(
            MicroBatchDataset(rows, self.pad_token_id),
            sampler=sampler,
            batch_size=None,
            num_workers=self.num_workers,
            generator=own_generator(),
        )
