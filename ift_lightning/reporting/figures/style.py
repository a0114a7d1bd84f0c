"""How figures look: colours that colour-blind readers can tell apart, light and dark, and files."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ift_lightning.reporting.figures.fonts import font_families

MARKERS = ("o", "s", "D", "^", "v", "P", "X", "*")
LINES = ("-", "--", "-.", ":")


@dataclass(frozen=True, slots=True)
class Theme:
    """Colours of a figure.

    The series colours are those of Okabe and Ito (https://jfly.uni-koeln.de/color/), without the
    yellow on white; on dark ground they are lightened.
    """

    name: str
    background: str
    foreground: str
    muted: str
    grid: str
    series: tuple[str, ...]

    def color(self, index: int) -> str:
        return self.series[index % len(self.series)]


LIGHT = Theme(
    "light", "#ffffff", "#1f2328", "#636c76", "#d8dee4",
    ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#1f2328", "#7f7f7f"),
)  # fmt: skip
DARK = Theme(
    "dark", "#16191d", "#e6e8eb", "#9aa4af", "#343a42",
    ("#56b4e9", "#ff8f4d", "#3cc9a0", "#e6a1c6", "#f0e442", "#e69f00", "#ffffff", "#a0a7af"),
)  # fmt: skip

Draw = Callable[[Theme], Figure]
"""Draws a figure in a theme."""


@dataclass(frozen=True, slots=True)
class FigureFiles:
    """A figure as files and as text for a page.

    Args:
        name: File name without ending.
        alt: What it shows, for readers who cannot see it.
        caption: What to look at.
        svg_light: SVG text on light ground; the same as in the file.
        svg_dark: SVG text on dark ground.
    """

    name: str
    alt: str
    caption: str
    svg_light: str
    svg_dark: str


def _settings(theme: Theme) -> Any:
    return {
        "font.family": font_families(),
        "font.size": 9.0,
        "axes.facecolor": theme.background,
        "figure.facecolor": theme.background,
        "savefig.facecolor": theme.background,
        "text.color": theme.foreground,
        "axes.labelcolor": theme.foreground,
        "axes.edgecolor": theme.muted,
        "axes.titlesize": 9.5,
        "axes.titlelocation": "left",
        "axes.titlecolor": theme.foreground,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        "xtick.color": theme.muted,
        "ytick.color": theme.muted,
        "xtick.labelcolor": theme.foreground,
        "ytick.labelcolor": theme.foreground,
        "grid.color": theme.grid,
        "grid.linewidth": 0.7,
        "legend.frameon": False,
        "svg.fonttype": "path",  # glyphs as outlines: they look the same everywhere
        "svg.hashsalt": "ift_lightning",  # the same figure gives the same file
        "axes.unicode_minus": True,
    }


def save_figure(folder: Path, name: str, draw: Draw, *, alt: str, caption: str) -> FigureFiles:
    """Draw a figure in both themes; write PNG and SVG of the light one.

    Args:
        folder: Where the files go.
        name: File name without ending.
        draw: Draws it.
        alt: What it shows.
        caption: What to look at.
    """
    folder.mkdir(parents=True, exist_ok=True)
    texts = {}
    for theme in (LIGHT, DARK):
        with mpl.rc_context(_settings(theme)):
            figure = draw(theme)
            buffer = io.StringIO()
            figure.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None})
            texts[theme.name] = buffer.getvalue()
            if theme is LIGHT:
                figure.savefig(folder / f"{name}.png", dpi=180, bbox_inches="tight")
    (folder / f"{name}.svg").write_text(texts["light"], encoding="utf-8")
    return FigureFiles(name, alt, caption, texts["light"], texts["dark"])


def new_axes(width: float, height: float, columns: int = 1, **options: Any) -> tuple[Figure, Any]:
    """Return a figure and its axes; sizes in inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(1, columns, **options)
    return figure, axes


def mark_rows(axes: Axes, labels: Sequence[str]) -> None:
    """Give a horizontal chart a row for each label, the first on top."""
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")
    axes.spines["left"].set_visible(False)
