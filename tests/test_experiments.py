"""Every comparison as one command: each composes, and each runs from end to end."""

from __future__ import annotations

import csv
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra.core.global_hydra import GlobalHydra

from ift_lightning.config.entry import config_dir

EXPERIMENTS = sorted(path.stem for path in (config_dir() / "experiment").glob("*.yaml"))
# What each compares: the options that differ, and how many arms there are.
ARMS = {
    "attention_compare": ({"attention"}, 2),
    "before_after_lora": (set(), 1),
    "before_after_qlora": (set(), 1),
    "comments_compare": ({"data_variant"}, 2),
    "cot_compare": ({"cot_level"}, 2),
    "cot_complexity": ({"cot_level"}, 3),
    "defect_judgement": ({"loss"}, 2),
    "instruction_data_compare": ({"data_variant", "cot_level"}, 8),
    "lora_vs_full": ({"peft"}, 2),
    "peft_compare": ({"peft"}, 8),
    "precision_compare": ({"precision"}, 5),
    "reverse_instruction": (set(), 1),
    "sft_vs_instruction": ({"template"}, 2),
    "strategy_compare": ({"strategy"}, 4),
}


def points_of(experiment: str, *words: str) -> list[Any]:
    """Compose the points of an experiment without running any."""
    from hydra import compose, initialize_config_dir

    from ift_lightning.config.entry import register_resolvers, register_schema
    from ift_lightning.config.schema import TrainConfig
    from ift_lightning.sweeps.points import compose_points

    register_resolvers()
    register_schema("train", TrainConfig)
    GlobalHydra.instance().clear()
    fixed = [word for word in words if "," not in word]
    overrides = [f"experiment={experiment}", "hydra.sweep.dir=sweep", *fixed]
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        master = compose("train", overrides, return_hydra_config=True)
        # As the command line has them; compose() keeps them elsewhere.
        master.hydra.overrides.task = [f"experiment={experiment}", *words]
        master.hydra.job.config_name = "train"
        points = compose_points(master)
    assert points is not None
    return points


def test_every_experiment_is_known() -> None:
    assert sorted(ARMS) == EXPERIMENTS


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_experiments_compose(experiment: str) -> None:
    from ift_lightning.config.checks import check_config

    factors, num_arms = ARMS[experiment]
    points = points_of(experiment, "seed=7")
    assert len(points) == num_arms
    assert {point.config.seed for point in points} == {7}
    assert len({point.folder for point in points}) == len(points)
    for point in points:
        if experiment != "strategy_compare":
            check_config(point.config)
        keys = {word.partition("=")[0] for word in point.overrides}
        assert keys - {"seed", "experiment"} == factors


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_seeds_are_the_slowest_axis(experiment: str) -> None:
    """A sweep that is interrupted then has whole comparisons, of fewer seeds."""
    text = (config_dir() / "experiment" / f"{experiment}.yaml").read_text(encoding="utf-8")
    params = yaml.safe_load(text)["hydra"]["sweeper"]["params"]
    assert next(iter(params)) == "seed"
    assert str(params["seed"]) == ("0" if experiment == "strategy_compare" else "0,1,2")


def test_an_experiment_takes_other_options() -> None:
    points = points_of("peft_compare", "peft=lora,prefix", "model=qwen2_5_coder_1_5b",
                       "data=code_alpaca", "seed=0,1")  # fmt: skip
    assert [point.config.peft.name for point in points] == ["lora", "prefix"] * 2
    assert {point.config.model.name for point in points} == {"qwen2_5_coder_1_5b"}
    assert {point.config.data.name for point in points} == {"code_alpaca"}


@pytest.mark.slow
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_experiments_run(experiment: str, tmp_path: Path) -> None:
    """Two steps of each, one seed: every point finishes, and the report has all of them."""
    # AdaLoRA cannot be made in two: it has to measure before it takes ranks away.
    steps = 4 if experiment == "peft_compare" else 2
    words = ["trainer=smoke", f"trainer.max_steps={steps}", "seeds=1", "data.num_train=48",
             "data.num_val=8", "data.num_test=12", "generation.max_new_tokens=24",
             f"hydra.sweep.dir={tmp_path / 'sweep'}"]  # fmt: skip
    _, num_arms = ARMS[experiment]
    if experiment == "strategy_compare":
        words += ["trainer.accelerator=cpu", "trainer.num_threads=1"]  # two processes a point
        if importlib.util.find_spec("deepspeed") is None:
            words.append("strategy=single,ddp,fsdp")
            num_arms -= 1
    elif num_arms > 4:
        words += ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "trainer.num_threads=1"]
    result = subprocess.run(
        [sys.executable, "-m", "ift_lightning.train", f"experiment={experiment}", *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert result.returncode == 0, result.stdout[-1500:] + result.stderr[-3000:]
    folder = tmp_path / "sweep"
    with (folder / "report" / "results.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == num_arms
    assert (folder / "report" / "report.html").stat().st_size > 10_000
    comparison = json.loads((folder / "report" / "comparison.json").read_text(encoding="utf-8"))
    assert not comparison["left_out"]
