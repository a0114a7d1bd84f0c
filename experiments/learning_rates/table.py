"""Prints what a search has found, as a Markdown table: python table.py FOLDER."""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main() -> None:
    losses: dict[str, dict[float, float | None]] = {}
    for path in sorted(Path(sys.argv[1]).glob("*/*/run.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        options = dict(word.split("=", 1) for word in record["overrides"])
        rate = float(options["optimizer.lr"])
        losses.setdefault(options["peft"], {})[rate] = record["metrics"].get("val/loss")
    for method, found in losses.items():
        known = {rate: loss for rate, loss in found.items() if loss is not None}
        best = min(known, key=lambda rate: known[rate], default=None)
        cells = [
            f"{rate:g}: {'diverged' if loss is None else f'{loss:.4f}'}"
            for rate, loss in sorted(found.items())
        ]
        cells = [
            f"**{cell}**" if best is not None and cell.startswith(f"{best:g}:") else cell
            for cell in cells
        ]
        print(f"| {method} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
