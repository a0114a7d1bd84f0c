"""Trains the same rows with every strategy, and tells how far losses and weights are apart.

    python experiments/strategies/measure.py FOLDER [--devices N] [--strategies A,B,…] [OVERRIDE …]

Overrides go to every run. FOLDER/results.md has the table.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

STRATEGIES = {
    "single": ["strategy=single"],
    "ddp": ["strategy=ddp"],
    "fsdp": ["strategy=fsdp"],
    "fsdp-offload": ["strategy=fsdp", "strategy.cpu_offload=true"],
    "zero-1": ["strategy=deepspeed", "strategy.stage=1"],
    "zero-2": ["strategy=deepspeed", "strategy.stage=2"],
    "zero-3": ["strategy=deepspeed", "strategy.stage=3"],
    "zero-2-offload": ["strategy=deepspeed", "strategy.stage=2", "strategy.offload_optimizer=true"],
    "zero-3-offload": [
        "strategy=deepspeed",
        "strategy.stage=3",
        "strategy.offload_optimizer=true",
        "strategy.offload_parameters=true",
    ],
}


def train(name: str, folder: Path, devices: int, overrides: list[str]) -> Path:
    """Run the training of one strategy; return its run folder."""
    run = folder / name
    if (run / "run.json").is_file():
        status = json.loads((run / "run.json").read_text(encoding="utf-8"))["status"]
        if status == "completed":
            return run
    own = [] if name == "single" else [f"trainer.devices={devices}"]
    command = [
        *(sys.executable, "-m", "ift_lightning.train", f"hydra.run.dir={run}"),
        *("logger=csv", "trainer.log_every_n_steps=1", "trainer.progress_bar=false"),
        *("measure_before=false", "evaluate=false"),
        *STRATEGIES[name],
        *own,
        *overrides,
    ]
    subprocess.run(command, check=True)
    return run


def losses_of(run: Path) -> list[float]:
    """Return the training loss of every step."""
    path = next(run.rglob("metrics.csv"))
    with path.open(encoding="utf-8") as stream:
        rows = [row for row in csv.DictReader(stream) if row.get("train/loss")]
    return [float(row["train/loss"]) for row in sorted(rows, key=lambda row: int(row["step"]))]


def weights_of(run: Path) -> dict[str, torch.Tensor]:
    """Return the trained weights: the adapter's, or all."""
    files = [*run.glob("adapter/*.safetensors"), *run.glob("model/*.safetensors")]
    return {name: value for path in files for name, value in load_file(path).items()}


def compare(run: Path, reference: Path) -> dict[str, Any]:
    """Return how far a run is from another one."""
    losses, expected = losses_of(run), losses_of(reference)
    assert len(losses) == len(expected)
    weights, wanted = weights_of(run), weights_of(reference)
    assert weights.keys() == wanted.keys()
    record = json.loads((run / "run.json").read_text(encoding="utf-8"))
    performance = record["performance"]
    return {
        "last loss": f"{losses[-1]:.6f}",
        "losses apart": _apart(max(abs(a - b) for a, b in zip(losses, expected, strict=True))),
        "weights apart": _apart(
            max(float((weights[name] - wanted[name]).abs().max()) for name in wanted)
        ),
        "target tokens/s": f"{performance['target_tokens_per_second']:.0f}",
        "peak MiB of rank 0": f"{performance['peak_memory_bytes']['train'] / 2**20:.0f}",
    }


def _apart(value: float) -> str:
    return f"{value:.1e}" if value else "0"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--devices", type=int, default=2)
    parser.add_argument("--strategies", default=",".join(STRATEGIES), help="separated by commas")
    arguments, overrides = parser.parse_known_args()
    folder = arguments.folder.resolve()
    names = dict.fromkeys(["single", *arguments.strategies.split(",")])
    if unknown := names.keys() - STRATEGIES.keys():
        parser.error(f"no strategy {', '.join(sorted(unknown))}; there are {', '.join(STRATEGIES)}")
    runs = {name: train(name, folder, arguments.devices, overrides) for name in names}
    results = {name: compare(run, runs["single"]) for name, run in runs.items()}
    columns = list(next(iter(results.values())))
    lines = [f"| strategy | {' | '.join(columns)} |", f"|---|{'---|' * len(columns)}"]
    lines += [f"| {name} | {' | '.join(row.values())} |" for name, row in results.items()]
    (folder / "results.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
