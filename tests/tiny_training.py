"""Small batches, rows in memory, and whole runs on them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ift_lightning.data.datamodule import InstructionDataModule
from ift_lightning.modeling.optimization import build_optimizer, build_scheduler
from ift_lightning.training.module import InstructionTuningModule
from ift_lightning.training.ranks import Ranks
from ift_lightning.training.run import RunSettings, TrainingRun
from ift_lightning.training.run_record import RunRecorder
from ift_lightning.types import Batch, RunRecord, TokenizedExample

VOCABULARY_SIZE = 259  # the alphabet of bytes and the special tokens: any tokenizer has these
PAD = 2


class MemorySplit:
    """Examples in memory, as a tokenized split hands them out."""

    def __init__(self, examples: list[TokenizedExample]) -> None:
        self.examples = examples
        self.lengths = np.array([len(row.input_ids) for row in examples], dtype=np.int64)
        self.weights = np.array([sum(row.loss_weights) for row in examples], dtype=np.float64)

    def __len__(self) -> int:
        return len(self.examples)

    def rows(self, indices: Iterable[int]) -> list[TokenizedExample]:
        return [self.examples[index] for index in indices]

    def tokens(self, row: int) -> tuple[Any, Any]:
        example = self.examples[row]
        return np.array(example.input_ids), np.array(example.loss_weights, dtype=np.float32)

    def id_of(self, row: int) -> str:
        return self.examples[row].id


def random_examples(count: int, seed: int = 0, longest: int = 24) -> list[TokenizedExample]:
    """Return rows of unequal lengths; some tokens weigh more than others."""
    generator = np.random.default_rng(seed)
    examples = []
    for index in range(count):
        length = int(generator.integers(6, longest + 1))
        prompt = int(generator.integers(1, length - 2))
        weights = [0.0] * prompt + [1.0] * (length - prompt)
        for position in range(prompt, length):
            if generator.random() < 0.2:
                weights[position] = 2.5
        ids = [int(x) for x in generator.integers(3, VOCABULARY_SIZE, length)]
        examples.append(TokenizedExample(f"row{index}", ids, weights, prompt, True))
    return examples


def to_batch(examples: list[TokenizedExample], step_weight: float | None = None) -> Batch:
    """Return examples as one micro-batch, padded on the right."""
    longest = max(len(row.input_ids) for row in examples)
    input_ids = torch.full((len(examples), longest), PAD)
    mask = torch.zeros_like(input_ids)
    weights = torch.zeros(input_ids.shape)
    for index, row in enumerate(examples):
        length = len(row.input_ids)
        input_ids[index, :length] = torch.tensor(row.input_ids)
        mask[index, :length] = 1
        weights[index, :length] = torch.tensor(row.loss_weights)
    total = float(weights.sum()) if step_weight is None else step_weight
    return Batch(input_ids, mask, weights, total, tuple(row.id for row in examples))


def filler(batch: Batch) -> Batch:
    """Return a batch that counts for nothing."""
    return dataclasses.replace(batch, loss_weights=torch.zeros_like(batch.loss_weights))


def randomize_adapter(model: Any, seed: int = 0) -> None:
    """Give every trainable tensor a value, so that none hides behind another one's zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                noise = torch.randn(parameter.shape, generator=generator)
                parameter.add_(0.05 * noise.to(parameter.dtype))


def gradients(model: Any) -> dict[str, torch.Tensor]:
    """Return the gradients that there are, by name."""
    return {
        name: parameter.grad.clone()
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }


def make_run(
    model: Any,
    folder: Path,
    *,
    num_rows: int = 12,
    num_val: int = 4,
    num_steps: int = 4,
    global_batch_size: int = 4,
    micro_batch_size: int = 2,
    lr: float = 1e-2,
    optimizer: Mapping[str, Any] | None = None,
    scheduler: str = "linear",
    seed: int = 0,
    **changes: Any,
) -> TrainingRun:
    """Return a run of ``model`` on random rows, ready to fit."""
    train = random_examples(num_rows, seed=1)
    val = random_examples(num_val, seed=2) if num_val else []
    splits: dict[str, Any] = {"train": MemorySplit(train), "val": MemorySplit(val)}
    datamodule = InstructionDataModule(
        splits,
        pad_token_id=PAD,
        num_steps=num_steps,
        global_batch_size=global_batch_size,
        micro_batch_size=micro_batch_size,
        seed=seed,
    )
    ranks = changes.get("ranks", Ranks())
    planner = datamodule.planner(ranks.world_size)
    module = InstructionTuningModule(
        model,
        optimizer=partial(
            build_optimizer,
            settings=optimizer or {"_target_": "torch.optim.AdamW"},
            lr=lr,
            weight_decay=0.0,
        ),
        scheduler=partial(build_scheduler, type_name=scheduler, num_steps=num_steps),
    )
    settings: dict[str, Any] = {
        "accelerator": "cpu",
        "val_every_n_steps": 2,
        "save_every_n_steps": 2,
        "progress_bar": False,
        **changes,
    }
    record = RunRecord(name="tiny", seed=seed, overrides=[], config_fingerprint="")
    return TrainingRun(
        module,
        datamodule,
        RunSettings(
            num_steps=num_steps,
            steps_per_epoch=planner.steps_per_epoch,
            micro_batches_per_step=planner.micro_batches_per_step,
            **settings,
        ),
        folder=folder,
        loggers=[],
        recorder=RunRecorder(folder, record),
    )
