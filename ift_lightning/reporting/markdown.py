"""A report as Markdown, with its figures as files beside it."""

from __future__ import annotations

import re

from ift_lightning.reporting.document import (
    Block,
    Bullets,
    Document,
    FigureBlock,
    Paragraph,
    SampleBlock,
    Table,
)


def to_markdown(document: Document, figures: str = "figures") -> str:
    """Return the report as Markdown.

    Args:
        document: The report.
        figures: Folder of the figures, seen from the file.
    """
    lines = [f"# {_inline(document.title)}", "", document.subtitle, ""]
    for section in document.sections:
        lines += [f"## {section.title}", ""]
        for block in section.blocks:
            lines += [_block(block, figures), ""]
    return "\n".join(lines).rstrip() + "\n"


def _block(block: Block, figures: str) -> str:
    if isinstance(block, Paragraph):
        return f"> **Note.** {_inline(block.text)}" if block.warns else _inline(block.text)
    if isinstance(block, Bullets):
        return "\n".join(f"- {_inline(item)}" for item in block.items)
    if isinstance(block, Table):
        return _table(block)
    if isinstance(block, FigureBlock):
        return _figure(block, figures)
    assert isinstance(block, SampleBlock)
    return _samples(block)


def _inline(text: str) -> str:
    """Keep characters of names from being read as markup."""
    return re.sub(r"([\\`*_<>\[\]|])", r"\\\1", " ".join(text.split()))


def _table(table: Table) -> str:
    numbers = [table.is_number(column) for column in range(len(table.columns))]
    lines = [
        f"*{_inline(table.caption)}*",
        "",
        "| " + " | ".join(_inline(name) for name in table.columns) + " |",
        "|" + "|".join("---:" if number else "---" for number in numbers) + "|",
    ]
    for row in table.rows:
        lines.append("| " + " | ".join(_inline(cell.text) for cell in row) + " |")
    return "\n".join(lines)


def _figure(block: FigureBlock, figures: str) -> str:
    files = block.files
    text = f"![{_inline(files.alt)}]({figures}/{files.name}.png)\n\n*{_inline(files.caption)}*"
    if block.legend:
        text += "\n\n" + "\n".join(f"- {key}: {_inline(v)}" for key, v in block.legend.items())
    return text


def _samples(block: SampleBlock) -> str:
    parts = [f"**{_inline(block.heading)}**"]
    for label, text in block.texts:
        fence = "```"
        while fence in text:
            fence += "`"
        parts += ["", f"{label}:", "", fence, text.rstrip("\n"), fence]
    return "\n".join(parts)
