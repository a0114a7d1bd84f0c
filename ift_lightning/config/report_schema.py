"""Dataclass of ``python -m ift_lightning.report``."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class ReportConfig:
    """The whole of ``python -m ift_lightning.report``: one of sweep, runs, or before and after."""

    sweep: str | None = None  # folder with runs below it
    runs: list[str] = field(default_factory=list)  # run folders
    before: str | None = None  # run folder of the base model's evaluation
    after: str | None = None  # run folder of the tuned model
    metric: str | None = None  # main score, such as pass@1; None: the first that all arms have
    baseline: str | None = None  # arm that the others are compared with; None: all pairs
    title: str | None = None
    num_resamples: int = 10000  # of the bootstrap
    num_samples: int = 6  # answers shown side by side
    output: str | None = None  # folder to write; None: run_dir
    run_dir: str = "${hydra:runtime.output_dir}"
