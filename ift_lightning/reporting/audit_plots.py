"""The plots of an audit, as SVG to put into a page. No text of theirs leaves the picture."""

from __future__ import annotations

import html
import unicodedata
from collections.abc import Mapping, Sequence

WIDTH = 860
_EDGE = 10  # pixels that stay free at the right
_GLYPH, _WIDE_GLYPH = 6.6, 11.5  # pixels at 11 px, taken generously


def text_width(text: str) -> float:
    """Return the pixels that a text takes at most."""
    wide = sum(unicodedata.east_asian_width(character) in "WF" for character in text)
    return wide * _WIDE_GLYPH + (len(text) - wide) * _GLYPH


def shortened(text: str, room: float) -> str:
    """Return a text that fits into ``room`` pixels, with an ellipsis where it was cut."""
    if text_width(text) <= room:
        return text
    while text and text_width(text) + _WIDE_GLYPH > room:
        text = text[:-1]
    return text + "…"


def nice_step(top: float, most: int = 8) -> int:
    """Return 1, 2 or 5 times a power of ten that divides 0 to ``top`` into ``most`` at most."""
    power = 1
    while True:
        for factor in (1, 2, 5):
            if top / (factor * power) <= most:
                return factor * power
        power *= 10


def _text(x: float, y: float, text: str, anchor: str, title: str = "") -> str:
    inside = html.escape(text) + (f"<title>{html.escape(title)}</title>" if title else "")
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{inside}</text>'


def histogram(data: Mapping[str, Sequence[int]], limit: int | None) -> str:
    """Return a histogram of whole numbers, with a dashed line at ``limit``."""
    edges, counts = data["edges"], data["counts"]
    highest, top = max(counts) or 1, edges[-1] or 1
    height, bottom, left = 220, 26, max(60, text_width(f"{highest:,}") + 8)
    base, right = height - bottom, WIDTH - _EDGE

    def x(value: float) -> float:
        return left + value / top * (right - left)

    def y(count: float) -> float:
        return 14 + (1 - count / highest) * (base - 14)

    shapes = [
        f'<rect class="bar" x="{x(low):.1f}" y="{y(count):.1f}" '
        f'width="{max(x(high) - x(low) - 1, 0.5):.1f}" height="{base - y(count):.1f}">'
        f"<title>{low} to {high - 1}: {count:,} rows</title></rect>"
        for low, high, count in zip(edges, edges[1:], counts, strict=False)
    ]
    shapes.append(f'<line class="axis" x1="{left:.1f}" x2="{right}" y1="{base}" y2="{base}"/>')
    for value in range(0, top + 1, nice_step(top)):
        # The last number would stick out where it is as far right as the axis goes.
        middle = min(x(value), WIDTH - text_width(f"{value:,}") / 2)
        shapes.append(_text(middle, height - 8, f"{value:,}", "middle"))
    for count in (0, highest):
        shapes.append(_text(left - 6, y(count) + 4, f"{count:,}", "end"))
    if limit is not None:
        label, place = f"limit {limit:,}", x(limit)
        fits_left = place - 4 - text_width(label) >= 0
        shapes.append(
            f'<line class="limit" x1="{place:.1f}" x2="{place:.1f}" y1="4" y2="{base}"/>'
            + _text(place + (-4 if fits_left else 4), 12, label, "end" if fits_left else "start")
        )
    return f'<svg viewBox="0 0 {WIDTH} {height}" role="img">{"".join(shapes)}</svg>'


def bars(counts: Mapping[str, int], most: int = 30) -> str:
    """Return the counts as horizontal bars, the ``most`` frequent ones."""
    shown = list(counts.items())[:most]
    if not shown:
        return "<p>none</p>"
    highest = max(count for _, count in shown) or 1
    row, left = 20, 220
    room = WIDTH - left - text_width(f"{highest:,}") - 6
    longest = min(560.0, room)
    shapes = []
    for index, (name, count) in enumerate(shown):
        y, length = index * row, count / highest * longest
        label = shortened(name, left - 8)
        shapes.append(
            _text(left - 8, y + 14, label, "end", title=name if label != name else "")
            + f'<rect class="bar" x="{left}" y="{y + 3}" width="{length:.1f}" height="{row - 6}"/>'
            + _text(left + length + 6, y + 14, f"{count:,}", "start")
        )
    more = f"<p>and {len(counts) - most:,} more</p>" if len(counts) > most else ""
    picture = f'<svg viewBox="0 0 {WIDTH} {row * len(shown)}" role="img">{"".join(shapes)}</svg>'
    return picture + more
