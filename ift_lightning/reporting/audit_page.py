"""An audit as one page that needs nothing else: plots are SVG, and no script is run."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

_STYLE = """
:root { color-scheme: light dark; --bar: #3b76c4; --limit: #c43b3b; --rule: #8886; --on: #2e8b5733 }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; margin: 1rem 0 }
td, th { border-bottom: 1px solid var(--rule); padding: .25rem .8rem; text-align: right }
td:first-child, th:first-child { text-align: left }
svg { width: 100%; height: auto } svg text { font-size: 11px; fill: currentColor }
.bar { fill: var(--bar) } .limit { stroke: var(--limit); stroke-dasharray: 4 3 }
.axis { stroke: currentColor }
pre { white-space: pre-wrap; overflow-wrap: anywhere; padding: .8rem }
pre { border: 1px solid var(--rule) }
mark { background: var(--on); color: inherit; outline: 1px solid #2e8b57 }
.masked { opacity: .6 }
"""

_ROWS = (
    ("num_rows", "rows"),
    ("num_usable", "usable"),
    ("num_unusable", "not usable"),
    ("num_tokens", "tokens"),
    ("num_target_tokens", "supervised tokens"),
    ("supervised_share", "supervised share"),
    ("num_longer_than_limit", "longer than the limit"),
    ("num_prompts_cut", "prompts cut"),
    ("num_without_end", "end not supervised"),
)


def audit_page(
    audit: Mapping[str, Any],
    title: str,
    samples: Sequence[tuple[str, Sequence[tuple[str, bool]]]],
) -> str:
    """Return an audit as an HTML page.

    Args:
        audit: As :func:`ift_lightning.data.auditing.summary.summarize` returns it.
        title: Of the page.
        samples: Row ids, each with its text as stretches that are supervised or not.
    """
    parts = [f"<h1>{_escape(title)}</h1>", _split_table(audit["splits"])]
    for split, numbers in audit["splits"].items():
        for key, what, limit in (
            ("length", "Length", audit["max_seq_length"]),
            ("target_length", "Supervised", None),
        ):
            if numbers[key]:
                parts.append(f"<h2>{what} in tokens, {_escape(split)}</h2>")
                parts.append(histogram(numbers[key]["histogram"], limit))
    parts.append(_overlaps(audit))
    for name in ("languages", "categories", "subtypes"):
        parts.append(f"<h2>{name.capitalize()}</h2>{bars(audit[name])}")
    parts.append("<h2>Samples</h2><p>The model is trained on what is <mark>marked</mark>.</p>")
    parts += [f"<h3>{_escape(name)}</h3>{_sample(pieces)}" for name, pieces in samples]
    body = "\n".join(parts)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>{_escape(title)}</title><style>{_STYLE}</style></head>\n<body>\n{body}\n"
        "</body></html>\n"
    )


def _escape(value: Any) -> str:
    return html.escape(str(value))


def _split_table(splits: Mapping[str, Mapping[str, Any]]) -> str:
    head = "".join(f"<th>{_escape(split)}</th>" for split in splits)
    rows = []
    for key, label in _ROWS:
        cells = "".join(
            f"<td>{numbers[key]:.1%}</td>"
            if key.endswith("share")
            else f"<td>{numbers[key]:,}</td>"
            for numbers in splits.values()
        )
        rows.append(f"<tr><td>{label}</td>{cells}</tr>")
    return f"<table><tr><th></th>{head}</tr>{''.join(rows)}</table>"


def _overlaps(audit: Mapping[str, Any]) -> str:
    same = audit["duplicates"]
    rows = [
        ("duplicates to the letter", same["num_exact"]),
        ("duplicates in spelling only", same["num_near"]),
        ("same request, another answer", same["num_same_request"]),
    ]
    rows += [
        (f"{split} rows that ask what a training row asks", numbers["num_requests"])
        for split, numbers in audit["overlap"].items()
    ]
    benchmark = audit["benchmark"]
    if "file" in benchmark:
        rows.append((f"rows that overlap with {benchmark['file']}", benchmark["num_rows"]))
    cells = "".join(f"<tr><td>{_escape(name)}</td><td>{n:,}</td></tr>" for name, n in rows)
    return f"<h2>Duplicates and overlap</h2><table>{cells}</table>"


def histogram(data: Mapping[str, Sequence[int]], limit: int | None) -> str:
    """Return a histogram as SVG, with a dashed line at ``limit``."""
    edges, counts = data["edges"], data["counts"]
    width, height, left, bottom = 860, 220, 60, 26
    highest, top = max(counts) or 1, edges[-1] or 1

    def x(value: float) -> float:
        return left + value / top * (width - left - 10)

    def y(count: float) -> float:
        return 14 + (1 - count / highest) * (height - 14 - bottom)

    shapes = [
        f'<rect class="bar" x="{x(low):.1f}" y="{y(count):.1f}" '
        f'width="{max(x(high) - x(low) - 1, 0.5):.1f}" height="{height - bottom - y(count):.1f}">'
        f"<title>{low} to {high - 1}: {count:,} rows</title></rect>"
        for low, high, count in zip(edges, edges[1:], counts, strict=False)
    ]
    base = height - bottom
    shapes.append(f'<line class="axis" x1="{left}" x2="{width - 10}" y1="{base}" y2="{base}"/>')
    for step in range(5):
        value = round(top * step / 4)
        shapes.append(
            f'<text x="{x(value):.1f}" y="{height - 8}" text-anchor="middle">{value:,}</text>'
        )
    for count in (0, highest):
        shapes.append(
            f'<text x="{left - 6}" y="{y(count) + 4:.1f}" text-anchor="end">{count:,}</text>'
        )
    if limit is not None:
        shapes.append(
            f'<line class="limit" x1="{x(limit):.1f}" x2="{x(limit):.1f}" y1="4" y2="{base}"/>'
            f'<text x="{x(limit) - 4:.1f}" y="12" text-anchor="end">limit {limit:,}</text>'
        )
    return f'<svg viewBox="0 0 {width} {height}" role="img">{"".join(shapes)}</svg>'


def bars(counts: Mapping[str, int], most: int = 30) -> str:
    """Return the counts as horizontal bars in SVG, the ``most`` frequent ones."""
    shown = list(counts.items())[:most]
    if not shown:
        return "<p>none</p>"
    highest, row, left = max(count for _, count in shown) or 1, 20, 220
    shapes = []
    for index, (name, count) in enumerate(shown):
        y = index * row
        shapes.append(
            f'<text x="{left - 8}" y="{y + 14}" text-anchor="end">{_escape(name[:40])}</text>'
            f'<rect class="bar" x="{left}" y="{y + 3}" width="{count / highest * 560:.1f}" '
            f'height="{row - 6}"/>'
            f'<text x="{left + count / highest * 560 + 6:.1f}" y="{y + 14}">{count:,}</text>'
        )
    more = f"<p>and {len(counts) - most:,} more</p>" if len(counts) > most else ""
    return f'<svg viewBox="0 0 860 {row * len(shown)}" role="img">{"".join(shapes)}</svg>{more}'


def _sample(pieces: Sequence[tuple[str, bool]]) -> str:
    text = "".join(
        f"<mark>{_escape(piece)}</mark>"
        if supervised
        else f'<span class="masked">{_escape(piece)}</span>'
        for piece, supervised in pieces
    )
    return f"<pre>{text}</pre>"
