"""Writes a whole report: pages, figures, tables and data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ift_lightning.reporting.analysis import Analysis
from ift_lightning.reporting.contents import build_document
from ift_lightning.reporting.html_page import to_html
from ift_lightning.reporting.markdown import to_markdown
from ift_lightning.reporting.pictures import draw_all
from ift_lightning.reporting.writing import (
    write_comparison_json,
    write_evaluation_results,
    write_latex,
    write_results_csv,
)

FIGURES = "figures"


@dataclass(frozen=True, slots=True)
class ReportFiles:
    """Where a report's files are."""

    folder: Path
    markdown: Path
    html: Path


def write_report(analysis: Analysis, folder: Path) -> ReportFiles:
    """Write ``report.md``, ``report.html``, ``results.csv``, ``comparison.json``, ``table.tex``,
    figures, and ``evaluation_results.json`` where models judged.

    Args:
        analysis: Numbers.
        folder: Where the files go; it is made.
    """
    folder.mkdir(parents=True, exist_ok=True)
    figures = draw_all(analysis, folder / FIGURES)
    document = build_document(analysis, figures)
    files = ReportFiles(folder, folder / "report.md", folder / "report.html")
    files.markdown.write_text(to_markdown(document, FIGURES), encoding="utf-8")
    files.html.write_text(to_html(document), encoding="utf-8")
    write_results_csv(folder / "results.csv", analysis)
    write_comparison_json(folder / "comparison.json", analysis)
    write_latex(folder / "table.tex", analysis)
    if analysis.judgements:
        write_evaluation_results(folder / "evaluation_results.json", analysis.judgements)
    return files
