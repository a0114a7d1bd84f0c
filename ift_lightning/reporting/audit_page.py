"""An audit as one page that needs nothing else: plots are SVG, and no script is run."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

from ift_lightning.reporting.audit_plots import bars, histogram

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
            ("length", "Tokens of a row", audit["max_seq_length"]),
            ("target_length", "Supervised tokens of a row", None),
        ):
            if numbers[key]:
                parts.append(f"<h2>{what}, {_escape(split)}</h2>")
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


def _sample(pieces: Sequence[tuple[str, bool]]) -> str:
    text = "".join(
        f"<mark>{_escape(piece)}</mark>"
        if supervised
        else f'<span class="masked">{_escape(piece)}</span>'
        for piece, supervised in pieces
    )
    return f"<pre>{text}</pre>"
