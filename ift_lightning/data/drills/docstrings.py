"""Functions to complete from their docstring, as a base model reads them: no instruction at all."""

from __future__ import annotations

import random
from collections.abc import Iterator

from ift_lightning.data.drills.composition import DRILLS_VERSION, check_split
from ift_lightning.data.drills.pretraining import docstring_text
from ift_lightning.data.drills.tasks import sample_drill
from ift_lightning.types import InstructionRecord

_STEP_WEIGHTS = (1.0, 1.0, 1.0)


def generate_docstring_tasks(
    split: str, num_records: int, seed: int = 0
) -> Iterator[InstructionRecord]:
    """Yield functions of one to three steps, cut off behind their docstring.

    The instruction is the head of the function and a docstring that lists the steps; the output is
    the body. They measure what a base model can do before any tuning, with ``template=completion``.

    Args:
        split: "train", "val" or "test"; the splits share no composition of operations.
        num_records: Number of records; a larger number only adds to the same records.
        seed: The same seed gives the same records.

    Raises:
        ValueError: There is no such split.
    """
    check_split(split)
    rng = random.Random(f"{DRILLS_VERSION}-docstrings-{split}-{seed}")
    for index in range(num_records):
        drill = sample_drill(rng, split, step_weights=_STEP_WEIGHTS)
        source = drill.code.source(docstring=docstring_text(drill.phrases, rng))
        head, mark, body = source.rpartition('"""')
        yield InstructionRecord(
            id=f"{DRILLS_VERSION}-docstrings-{seed}-{split}-{index:06d}",
            instruction=head + mark,
            output=body,
            language="python",
            category="docstring",
            subtype=f"{len(drill.steps)}_step" + ("s" if len(drill.steps) > 1 else ""),
            entry_point=drill.code.name,
            tests=drill.tests,
        )
