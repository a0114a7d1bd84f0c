"""A report before it becomes Markdown or HTML: sections of paragraphs, tables, figures, samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ift_lightning.reporting.figures.style import FigureFiles


@dataclass(frozen=True, slots=True)
class Paragraph:
    """Text. ``warns`` sets it apart."""

    text: str
    warns: bool = False


@dataclass(frozen=True, slots=True)
class Bullets:
    """A list of short texts."""

    items: Sequence[str]


@dataclass(frozen=True, slots=True)
class Cell:
    """A table's cell; ``sort_by`` is its number, where it shows one."""

    text: str
    sort_by: float | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """A table with a caption."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]

    def is_number(self, column: int) -> bool:
        """Whether a column holds numbers."""
        return any(row[column].sort_by is not None for row in self.rows)


@dataclass(frozen=True, slots=True)
class FigureBlock:
    """A figure, and what stands for labels that could not be drawn."""

    files: FigureFiles
    legend: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SampleBlock:
    """Texts side by side: a heading, and pairs of a label and a text."""

    heading: str
    texts: Sequence[tuple[str, str]]


Block = Paragraph | Bullets | Table | FigureBlock | SampleBlock


@dataclass(frozen=True, slots=True)
class Section:
    """A heading and what stands under it."""

    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True, slots=True)
class Document:
    """A whole report."""

    title: str
    subtitle: str
    sections: Sequence[Section]
