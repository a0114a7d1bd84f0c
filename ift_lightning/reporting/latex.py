"""Tables for a paper."""

from __future__ import annotations

from collections.abc import Sequence

from ift_lightning.reporting.comparisons import ScoreTable

_ESCAPES = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
}


def escape(text: str) -> str:
    """Return a text whose special characters LaTeX prints."""
    return "".join(_ESCAPES.get(character, character) for character in text)


def to_latex(tables: Sequence[ScoreTable]) -> str:
    """Return a table (package booktabs) of all arms and scores: mean, interval, spread over seeds.

    The best mean of a score is bold; that says nothing about whether the difference is detectable.

    Args:
        tables: Scores over the same arms.
    """
    if not tables:
        return "% no scores\n"
    arms = list(dict.fromkeys(arm.arm for table in tables for arm in table.arms))
    lines = [
        "% needs \\usepackage{booktabs}",
        "\\begin{tabular}{l" + "r" * len(tables) + "}",
        "\\toprule",
        "Arm & " + " & ".join(_heading(table) for table in tables) + " \\\\",
        "\\midrule",
    ]
    for name in arms:
        cells = [_cell(table, name) for table in tables]
        lines.append(f"{escape(name)} & " + " & ".join(cells) + " \\\\")
    lines += ["\\bottomrule", "\\end{tabular}"]
    return "\n".join(lines) + "\n"


def _heading(table: ScoreTable) -> str:
    arrow = r"$\uparrow$" if table.info.higher_is_better else r"$\downarrow$"
    return f"{escape(table.info.label)} ({escape(table.info.unit)}) {arrow}"


def _cell(table: ScoreTable, name: str) -> str:
    arm = next((item for item in table.arms if item.arm == name), None)
    if arm is None:
        return "--"
    digits = table.info.digits
    means = [item.mean for item in table.arms]
    best = max(means) if table.info.higher_is_better else min(means)
    mean = f"{arm.mean:.{digits}f}"
    text = f"\\textbf{{{mean}}}" if arm.mean == best else mean
    if arm.low is not None and arm.high is not None:
        text += f" [{arm.low:.{digits}f}, {arm.high:.{digits}f}]"
    if arm.spread is not None:
        text += f" $\\pm$ {arm.spread:.{digits}f}"
    return text
