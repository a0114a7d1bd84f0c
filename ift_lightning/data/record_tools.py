"""Tools that change one record at a time; training applies the same functions as it reads."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from ift_lightning.data.comments import StripOptions
from ift_lightning.data.comments.records import strip_record
from ift_lightning.data.row_tools import ToolRow
from ift_lightning.data.variants import reverse
from ift_lightning.types import InstructionRecord, RawRow


@dataclass(frozen=True)
class ReverseTool:
    """From the answer to the instruction, as ``data_variant=reverse``."""

    def __call__(self, raw: RawRow, record: InstructionRecord) -> ToolRow:
        made = reverse(record)
        return ToolRow(made.to_json(), made != record)


@dataclass(frozen=True)
class StripTool:
    """Comments out of code, as ``data_variant=no_comments``.

    A row whose code cannot be stripped with proof stays as it was, and is counted by the reason.
    """

    options: StripOptions = field(default_factory=StripOptions)

    def __call__(self, raw: RawRow, record: InstructionRecord) -> ToolRow:
        outcome = strip_record(record, self.options)
        counts = Counter({f"row:{outcome.status}": 1})
        counts.update(outcome.counts)
        return ToolRow(outcome.record.to_json(), outcome.record != record, counts)
