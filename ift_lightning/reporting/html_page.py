"""A report as one HTML file that needs nothing else: styles, script and figures are inside."""

from __future__ import annotations

import base64
from importlib import resources

import jinja2

from ift_lightning.reporting.document import Document


def to_html(document: Document) -> str:
    """Return the report as one self-contained page."""
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["data_uri"] = _data_uri
    environment.tests["kind"] = lambda block, name: type(block).__name__ == name
    source = resources.files("ift_lightning.reporting") / "pages" / "report.html.j2"
    template = environment.from_string(source.read_text(encoding="utf-8"))
    return template.render(document=document)


def _data_uri(svg: str) -> str:
    encoded = base64.b64encode(svg.encode("utf-8")).decode("ascii")
    return f"data:image/svg+xml;base64,{encoded}"
