"""Dataclasses of the commands that use a model: ``evaluate`` and ``predict``."""

from __future__ import annotations

from dataclasses import dataclass

from ift_lightning.config.schema import TrainConfig


@dataclass
class TrainedModelConfig(TrainConfig):
    """Which model: a run's, a base model, or a base model with an adapter."""

    run: str | None = None  # run folder; its options are taken over
    adapter: str | None = None  # folder of an adapter for `model`
    use_adapter: bool = True  # false: the run's base model


@dataclass
class EvaluateConfig(TrainedModelConfig):
    """The whole of ``python -m ift_lightning.evaluate``."""

    name: str = "${model.name}-${data.name}"
    predictions: str | None = None  # JSONL of id and completion, instead of a model
    split: str = "test"  # rows to evaluate: train, val or test
    check_references: bool = True  # run the reference answers first; leave out those that fail
    num_shown: int = 5  # answers printed at the end


@dataclass
class PredictConfig(TrainedModelConfig):
    """The whole of ``python -m ift_lightning.predict``."""

    prompt: str | None = None  # one question; None, and no input: a conversation
    context: str = ""  # what the question is about, a template's `input`
    system: str | None = None  # system text of the conversation
    input: str | None = None  # file of rows
    output: str | None = None  # JSONL file to write
    history: bool = True  # whether a conversation remembers its earlier turns
