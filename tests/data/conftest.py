"""A builder without a tokenizer, and splits made of plain numbers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from ift_lightning.data.split_files import SplitWriter, TokenizedSplit
from ift_lightning.errors import BadRowError
from ift_lightning.types import InstructionRecord, TokenizedExample


@dataclasses.dataclass
class CharacterBuilder:
    """A token a character: the instruction and the input masked, the output supervised."""

    weight: float = 1.0
    refused: str = "REFUSE"
    num_built: int = 0
    num_calls: int = 0

    def build(self, records: Sequence[InstructionRecord]) -> list[TokenizedExample | BadRowError]:
        self.num_calls += 1
        return [self._example(record) for record in records]

    def _example(self, record: InstructionRecord) -> TokenizedExample | BadRowError:
        self.num_built += 1
        if self.refused in record.output:
            return BadRowError("the row is too long", field="output")
        prompt = [ord(character) for character in record.instruction + record.input]
        answer = [ord(character) for character in record.output]
        return TokenizedExample(
            id=record.id,
            input_ids=prompt + answer,
            loss_weights=[0.0] * len(prompt) + [self.weight] * len(answer),
            num_prompt_tokens=len(prompt),
            end_is_supervised=True,
        )


@pytest.fixture
def builder() -> CharacterBuilder:
    return CharacterBuilder()


@pytest.fixture
def make_builder() -> type[CharacterBuilder]:
    return CharacterBuilder


def numbered_example(index: int, length: int, num_targets: int) -> TokenizedExample:
    """Return an example whose ids tell which row and position each of them is from."""
    return TokenizedExample(
        id=f"row-{index}",
        input_ids=[1000 * index + position for position in range(length)],
        loss_weights=[0.0] * (length - num_targets) + [0.5 + index] * num_targets,
        num_prompt_tokens=length - num_targets,
        end_is_supervised=index % 2 == 0,
        num_cut_tokens=index % 3,
    )


@pytest.fixture
def make_split(tmp_path: Path) -> Callable[..., TokenizedSplit]:
    """Return a function that writes rows of the given (length, targets) and opens them."""
    count = iter(range(1000))

    def make(shapes: Sequence[tuple[int, int]]) -> TokenizedSplit:
        path = tmp_path / f"split-{next(count)}.arrow"
        writer = SplitWriter(path)
        for index, (length, num_targets) in enumerate(shapes):
            record: Any = InstructionRecord(id=f"row-{index}", instruction="i", output="o")
            writer.add(record, numbered_example(index, length, num_targets))
        writer.close()
        return TokenizedSplit(path, writer.statistics)

    return make
