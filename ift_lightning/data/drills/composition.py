"""Compositions of typed steps, and the split that each belongs to."""

from __future__ import annotations

import functools
import hashlib
import random
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from ift_lightning.data.drills.list_operations import LIST_OPERATIONS
from ift_lightning.data.drills.number_operations import DICT_OPERATIONS, NUMBER_OPERATIONS
from ift_lightning.data.drills.operation import Operation, Step
from ift_lightning.data.drills.text_operations import TEXT_OPERATIONS, WORD_OPERATIONS
from ift_lightning.errors import suggest
from ift_lightning.types import SPLITS

DRILLS_VERSION = "drills-v1"
"""Changes whenever the same arguments would give other drills."""

OPERATIONS: tuple[Operation, ...] = (
    LIST_OPERATIONS + TEXT_OPERATIONS + WORD_OPERATIONS + NUMBER_OPERATIONS + DICT_OPERATIONS
)
MAX_STEPS = 5

# One composition in ten is held out for each of the two evaluation splits.
_SPLIT_BUCKETS = {"test": (0,), "val": (1,), "train": tuple(range(2, 10))}
_SOURCE_WEIGHTS = {"ints": 40, "text": 20, "words": 15, "number": 10, "counts": 15}
_SOURCES = tuple(_SOURCE_WEIGHTS)
_CUMULATIVE_WEIGHTS = tuple(
    sum(list(_SOURCE_WEIGHTS.values())[: i + 1]) for i in range(len(_SOURCE_WEIGHTS))
)

Composition = tuple[Step, ...]


def _group_by_source(with_flags: bool) -> dict[str, tuple[Operation, ...]]:
    groups: dict[str, list[Operation]] = defaultdict(list)
    for operation in OPERATIONS:
        if with_flags or operation.target != "flag":
            groups[operation.source].append(operation)
    return {source: tuple(operations) for source, operations in groups.items()}


_LAST_OPERATIONS = _group_by_source(with_flags=True)
_INNER_OPERATIONS = _group_by_source(with_flags=False)


def composition_names(steps: Sequence[Step]) -> tuple[str, ...]:
    """Return the sequence of operation names that decides a composition's split."""
    return tuple(step.operation.name for step in steps)


@functools.lru_cache(maxsize=1 << 18)
def split_of(names: tuple[str, ...]) -> str:
    """Return the split ("train", "val" or "test") that owns a sequence of operation names.

    The split is a hash of the sequence alone. Parameters, names of variables and the kind of task
    play no part, so a held-out composition is held out in all its variants, at any size.
    """
    digest = hashlib.sha256(f"{DRILLS_VERSION}:{'>'.join(names)}".encode()).digest()
    bucket = int.from_bytes(digest[:4], "big") % 10
    return next(split for split, buckets in _SPLIT_BUCKETS.items() if bucket in buckets)


def draw_from(rng: random.Random | None, first: int, key: str) -> random.Random:
    """Return the random numbers that records are drawn from.

    Args:
        rng: Of a caller who wants to go on later; its state after a record belongs to that record.
        first: Records that were drawn from ``rng`` already; 0 starts it at ``key``.
        key: Where the draw begins.
    """
    if rng is None:
        rng = random.Random()
    if first == 0:
        rng.seed(key)
    return rng


def check_split(split: str) -> None:
    """Raise ``ValueError`` unless ``split`` is one of train, val and test."""
    if split not in SPLITS:
        raise ValueError(f"unknown split '{split}'. {suggest(split, SPLITS)}")


def sample_composition(
    rng: random.Random, split: str, num_steps_weights: Sequence[float]
) -> Composition:
    """Draw a composition that belongs to ``split``.

    Args:
        rng: source of randomness.
        split: "train", "val" or "test".
        num_steps_weights: relative frequency of 1, 2, ... steps (at most :data:`MAX_STEPS`).

    Returns:
        The steps with their parameters; no step that leaves the type as it is directly repeats
        the operation before it.
    """
    # The length is drawn first, so that the splits share one distribution of lengths.
    num_steps = rng.choices(range(1, len(num_steps_weights) + 1), num_steps_weights)[0]
    while True:
        operations = _sample_operations(rng, num_steps)
        if split_of(tuple(operation.name for operation in operations)) == split:
            return tuple(bind(operation, rng) for operation in operations)


def bind(operation: Operation, rng: random.Random) -> Step:
    """Return ``operation`` with parameters drawn from its admissible values."""
    k = rng.choice(operation.k) if operation.k else None
    m = rng.choice(operation.m) if operation.m else None
    return Step(operation, k, m)


def _sample_operations(rng: random.Random, num_steps: int) -> list[Operation]:
    value_type = rng.choices(_SOURCES, cum_weights=_CUMULATIVE_WEIGHTS)[0]
    operations: list[Operation] = []
    for position in range(num_steps):
        is_last = position == num_steps - 1
        choices = (_LAST_OPERATIONS if is_last else _INNER_OPERATIONS)[value_type]
        operation = rng.choice(choices)
        while operations and operation is operations[-1]:
            operation = rng.choice(choices)
        operations.append(operation)
        value_type = operation.target
    return operations


def trace(steps: Sequence[Step], value: Any) -> list[Any]:
    """Return the values after each step, for the input ``value`` (which is left unchanged)."""
    values = []
    for step in steps:
        value = step.function(value)
        values.append(value)
    return values
