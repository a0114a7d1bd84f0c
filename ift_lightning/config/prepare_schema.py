"""Dataclasses behind ``conf/prepare.yaml`` and the config group ``task``."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from enum import Enum

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

from ift_lightning.config.schema import TrainConfig
from ift_lightning.config.teaching_schema import CotConfig, CotPromptsConfig, TeacherConfig


class DuplicateText(Enum):
    """What has to be the same, once normalised, for two rows to be near-duplicates."""

    request = "request"  # what the model is shown
    row = "row"  # request and answer
    none = "none"  # rows are never near-duplicates


class Side(Enum):
    """One of the two sides of a split."""

    train = "train"
    test = "test"


class DrillKind(Enum):
    """Which generated rows are written."""

    tasks = "tasks"  # code tasks, in the project's own form
    docstrings = "docstrings"  # functions to complete from their docstring
    defects = "defects"  # raw defect form


@dataclass
class TaskConfig:
    """One data tool; each has a dataclass of its own."""

    name: str = MISSING


@dataclass
class SplitTaskConfig(TaskConfig):
    """Divides rows into train and test, a fixed share of every stratum in each."""

    test_ratio: float = 0.2  # share of the test rows
    stratify: str | None = "subtype"  # field, with dots into nested objects; None: no strata
    single: Side = Side.train  # where a stratum goes that cannot be divided
    near_duplicates: DuplicateText = DuplicateText.request


@dataclass
class StripTaskConfig(TaskConfig):
    """Takes comments out of code."""

    strip_docstrings: bool = False
    guess_language: bool = True  # where neither the row nor a code fence names one


@dataclass
class ReverseTaskConfig(TaskConfig):
    """From the answer to the instruction."""


@dataclass
class GenerateCotTaskConfig(TaskConfig):
    """Reasoning at three levels, written by a teacher."""


@dataclass
class DrillsTaskConfig(TaskConfig):
    """Generated rows; ``seed`` is the root's."""

    kind: DrillKind = DrillKind.tasks
    num_train: int = 2000
    num_val: int = 200
    num_test: int = 200


@dataclass
class AuditTaskConfig(TaskConfig):
    """What is about to be trained on. Without ``input``, the rows of the ``data`` group."""

    benchmark: str | None = None  # rows that training must not have seen, such as HumanEval's
    ngram_size: int = 13  # words in a row shared with the benchmark that count as overlap
    num_samples: int = 6  # rendered rows


TASK_SCHEMAS: dict[str, type[TaskConfig]] = {
    "split": SplitTaskConfig,
    "strip_comments": StripTaskConfig,
    "generate_cot": GenerateCotTaskConfig,
    "reverse": ReverseTaskConfig,
    "drills": DrillsTaskConfig,
    "audit": AuditTaskConfig,
}


@dataclass
class PrepareConfig(TrainConfig):
    """The whole of ``python -m ift_lightning.prepare``; training's options say what is audited."""

    task: TaskConfig = MISSING
    input: str | None = None  # file or folder of rows
    output: str | None = None  # .jsonl file, or folder, by task
    overwrite: bool = False  # replace a finished output
    workers: int | None = None  # processes; None: one a core
    form: str = "${data.form}"  # of the rows read
    fields: dict[str, str] = "${data.fields}"  # type: ignore[assignment]  # ours -> the file's
    progress_bar: bool = "${trainer.progress_bar}"  # type: ignore[assignment]
    teacher: TeacherConfig = MISSING
    cot_prompts: CotPromptsConfig = MISSING
    cot: CotConfig = field(default_factory=CotConfig)


def register_tasks() -> None:
    """Register the dataclass of each task as ``task_schema/NAME``, where its YAML begins."""
    store = ConfigStore.instance()
    for name, schema in TASK_SCHEMAS.items():
        store.store(group="task_schema", name=name, node=schema)


def task_option(word: str) -> str:
    """Put ``task.`` before an override of a task's own option: ``test_ratio=0.1``."""
    own = {field.name for schema in TASK_SCHEMAS.values() for field in dataclasses.fields(schema)}
    shared = {field.name for field in dataclasses.fields(PrepareConfig)}
    return f"task.{word}" if word.partition("=")[0] in own - shared else word
