"""Fonts for labels: a Chinese, Japanese or Korean one where the machine has it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from matplotlib import font_manager

CJK_FAMILIES = (
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Noto Sans SC",
    "Source Han Sans SC",
    "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei",
    "PingFang SC",
    "Hiragino Sans GB",
    "Microsoft YaHei",
    "SimHei",
    "Droid Sans Fallback",
    "Arial Unicode MS",
)
"""Families with Chinese glyphs, in the order in which they are tried."""

_CJK = re.compile(r"[\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\uff00-\uffef]")
_FILE_NAMES = ("notosanscjk", "notosanssc", "sourcehansans", "wqy", "droidsansfallback")


def has_cjk(text: str) -> bool:
    """Whether a text has characters that common Latin fonts lack."""
    return _CJK.search(text) is not None


@cache
def cjk_family() -> str | None:
    """Return a family with Chinese glyphs; None where the machine has none."""
    known = {font.name for font in font_manager.fontManager.ttflist}
    for family in CJK_FAMILIES:
        if family in known:
            return family
    # matplotlib keeps a list of fonts, which may be older than a font that was just installed.
    for path in sorted(font_manager.findSystemFonts()):
        if any(part in Path(path).name.lower().replace("-", "") for part in _FILE_NAMES):
            font_manager.fontManager.addfont(path)
    known = {font.name for font in font_manager.fontManager.ttflist}
    return next((family for family in CJK_FAMILIES if family in known), None)


def font_families() -> list[str]:
    """Return families for labels; each character is drawn with the first that has it."""
    family = cjk_family()
    return ["DejaVu Sans", family] if family else ["DejaVu Sans"]


def drawable(labels: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Return labels that can be drawn, and what stands for those that cannot.

    Without a font for them, Chinese labels would be drawn as empty boxes. They become "label 1",
    "label 2", …, which the page explains.

    Args:
        labels: In the order of the figure.

    Returns:
        The labels to draw, and a legend: drawn label to the original one. It is empty where every
        label can be drawn.
    """
    if cjk_family() is not None or not any(map(has_cjk, labels)):
        return list(labels), {}
    legend: dict[str, str] = {}
    drawn = []
    for label in labels:
        if has_cjk(label):
            short = next((key for key, value in legend.items() if value == label), None)
            short = short or f"label {len(legend) + 1}"
            legend[short] = label
            drawn.append(short)
        else:
            drawn.append(label)
    return drawn, legend
