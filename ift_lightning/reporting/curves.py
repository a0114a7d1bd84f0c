"""Learning curves of a run, from its TensorBoard events or its CSV log."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

CURVES = ("train/loss", "val/loss")


def read_curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Return curves of a run: name to pairs of optimizer steps done and value, by step.

    Args:
        folder: Run folder.

    Returns:
        Curves of :data:`CURVES` that the run logged; empty where it logged none.
    """
    found: dict[str, dict[int, float]] = {}
    for name, step, value in (*_from_events(folder), *_from_csv(folder)):
        if name in CURVES and value == value:
            # The loss of a step is logged under the number of steps done, that of a validation
            # under the number of the last one, counted from 0.
            found.setdefault(name, {})[step + (name == "val/loss")] = value
    return {name: sorted(points.items()) for name, points in found.items()}


def _from_events(folder: Path) -> Iterator[tuple[str, int, float]]:
    files = sorted(folder.rglob("events.out.tfevents.*"))
    if not files:
        return
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for path in files:
        # 0 keeps every point; the default would draw a sample of them.
        events = EventAccumulator(str(path), size_guidance={"scalars": 0})
        events.Reload()
        for name in CURVES:
            if name in events.Tags()["scalars"]:
                for event in events.Scalars(name):
                    yield name, event.step, event.value


def _from_csv(folder: Path) -> Iterator[tuple[str, int, float]]:
    for path in sorted(folder.rglob("metrics.csv")):
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                for name in CURVES:
                    if row.get(name) and row.get("step"):
                        yield name, int(float(row["step"])), float(row[name])
