"""Exact tensors, and loaders that go on where they were."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch

from ift_lightning.data.batching import PlannedMicroBatch
from ift_lightning.data.datamodule import (
    InstructionDataModule,
    MicroBatchDataset,
    ResumableLoader,
    TrainingSampler,
    collate,
)
from ift_lightning.data.split_files import TokenizedSplit
from ift_lightning.types import Batch

MakeSplit = Callable[..., TokenizedSplit]
SHAPES = [(4, 2), (2, 1), (3, 3), (6, 2), (5, 1), (2, 2), (7, 3)]


def test_collate(make_split: MakeSplit) -> None:
    batch = collate(make_split(SHAPES), PlannedMicroBatch((2, 1, 0), 12.5), pad_token_id=9)
    assert batch.input_ids.tolist() == [[2000, 2001, 2002, 9], [1000, 1001, 9, 9], [0, 1, 2, 3]]
    assert batch.attention_mask.tolist() == [[1, 1, 1, 0], [1, 1, 0, 0], [1, 1, 1, 1]]
    assert batch.loss_weights.tolist() == [
        [2.5, 2.5, 2.5, 0.0],
        [0.0, 1.5, 0.0, 0.0],
        [0.0, 0.0, 0.5, 0.5],
    ]
    assert batch.step_weight == 12.5
    assert batch.row_ids == ("row-2", "row-1", "row-0")
    assert batch.input_ids.dtype == batch.attention_mask.dtype == torch.int64
    assert batch.loss_weights.dtype == torch.float32


def test_filler_counts_for_nothing(make_split: MakeSplit) -> None:
    batch = collate(make_split(SHAPES), PlannedMicroBatch((1,), 3.0, filler=True), pad_token_id=9)
    assert batch.input_ids.tolist() == [[1000, 1001]]
    assert batch.attention_mask.tolist() == [[1, 1]]
    assert batch.loss_weights.tolist() == [[0.0, 0.0]]
    assert batch.row_ids == ()


def test_batches_are_copies(make_split: MakeSplit) -> None:
    split = make_split(SHAPES)
    collate(split, PlannedMicroBatch((0,), 1.0), 0).input_ids.fill_(5)
    assert split.rows([0])[0].input_ids == [0, 1, 2, 3]


def datamodule(make_split: MakeSplit, **changes: Any) -> InstructionDataModule:
    splits = {
        "train": make_split(SHAPES),
        "val": make_split(SHAPES[:5]),
        "test": make_split([]),
    }
    sizes = {
        "pad_token_id": 0,
        "num_steps": 5,
        "global_batch_size": 4,
        "micro_batch_size": 2,
        "eval_batch_size": 2,
        "seed": 3,
        **changes,
    }
    return InstructionDataModule(splits, **sizes)


def trace(batches: Iterator[Batch]) -> list[tuple[Any, ...]]:
    return [(batch.row_ids, batch.step_weight, batch.input_ids.tolist()) for batch in batches]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_loader_follows_the_plan(make_split: MakeSplit, num_workers: int) -> None:
    module = datamodule(make_split, num_workers=num_workers)
    loader = module.train_dataloader()
    batches = list(loader)
    planned = list(module.planner().micro_batches(0, 0, 10))
    assert len(loader) == len(batches) == 10
    rows = [() if item.filler else tuple(f"row-{r}" for r in item.rows) for item in planned]
    assert [batch.row_ids for batch in batches] == rows
    assert [batch.step_weight for batch in batches] == [item.step_weight for item in planned]
    # Over each step, the weights in the batches add up to the divisor that they carry.
    for first, second in zip(batches[::2], batches[1::2], strict=True):
        total = float(first.loss_weights.sum() + second.loss_weights.sum())
        assert total == pytest.approx(first.step_weight) == second.step_weight


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("position", [0, 1, 4, 7, 10])
def test_loader_goes_on_with_the_exact_next_batch(
    make_split: MakeSplit, num_workers: int, position: int
) -> None:
    module = datamodule(make_split, num_workers=num_workers)
    whole = trace(iter(module.train_dataloader()))
    first = module.train_dataloader()
    handed_out = iter(first)
    start = trace(next(handed_out) for _ in range(position))
    state = pickle.loads(pickle.dumps(first.state_dict()))
    second = module.train_dataloader()
    second.load_state_dict(state)
    assert start + trace(iter(second)) == whole
    # A checkpoint of the resumed run, taken before its first batch, says the same.
    third = module.train_dataloader()
    third.load_state_dict(state)
    assert third.state_dict() == state


def test_state_of_a_resumed_loader_counts_on(make_split: MakeSplit) -> None:
    module = datamodule(make_split)
    whole = trace(iter(module.train_dataloader()))
    position = 0
    for num_batches in (3, 2, 4):
        loader = module.train_dataloader()
        loader.load_state_dict({"position": position})
        batches = iter(loader)
        assert trace(next(batches) for _ in range(num_batches)) == whole[position:][:num_batches]
        position = loader.state_dict()["position"]
    assert position == 9


def test_dataset_reaches_workers_that_are_started_anew(make_split: MakeSplit) -> None:
    module = datamodule(make_split)
    split = module.splits["train"]
    loader = ResumableLoader(
        MicroBatchDataset(split, 0),
        sampler=TrainingSampler(module.planner(), 0, 5),
        batch_size=None,
    )
    copy: MicroBatchDataset = pickle.loads(pickle.dumps(loader.dataset))
    planned = PlannedMicroBatch((3,), 1.0)
    assert copy[planned].input_ids.tolist() == [[3000, 3001, 3002, 3003, 3004, 3005]]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_evaluation(make_split: MakeSplit, num_workers: int) -> None:
    module = datamodule(make_split, num_workers=num_workers)
    batches: Any = module.val_dataloader()
    assert [batch.row_ids for batch in batches] == [
        ("row-3", "row-4"),
        ("row-0", "row-2"),
        ("row-1",),
    ]
    assert module.test_dataloader() == []


class Recorder(L.LightningModule):
    """Trains one number, and notes the rows that it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.parameter = torch.nn.Parameter(torch.zeros(()))
        self.seen: list[tuple[str, ...]] = []

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        self.seen.append(batch.row_ids)
        return (self.parameter * batch.loss_weights).sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class SaveOnce(L.Callback):
    """Saves in the midst of a run, when the third optimizer step is done."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        if trainer.global_step == 3 and not self.path.exists():
            trainer.save_checkpoint(self.path)


def fit(module: Any, path: Path, *, resume: bool) -> list[Any]:
    trainer = L.Trainer(
        accelerator="cpu",
        max_steps=5,
        accumulate_grad_batches=2,
        default_root_dir=path.parent,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        limit_val_batches=0,
        callbacks=[SaveOnce(path)],
    )
    recorder = Recorder()
    checkpoint = path if resume else None
    trainer.fit(recorder, datamodule=module, ckpt_path=checkpoint, weights_only=False)
    return recorder.seen


@pytest.mark.parametrize("num_workers", [0, 2])
def test_lightning_resumes_in_the_middle_of_an_epoch(
    tmp_path: Path, make_split: MakeSplit, num_workers: int
) -> None:
    path = tmp_path / "middle.ckpt"
    module = datamodule(make_split, num_workers=num_workers)
    whole = fit(module, path, resume=False)
    rest = fit(datamodule(make_split, num_workers=num_workers), path, resume=True)
    assert (len(whole), len(rest)) == (10, 4)
    assert rest == whole[6:]
