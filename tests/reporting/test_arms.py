"""Spellings and options that change nothing do not split arms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from run_folders import write_run

from ift_lightning.reporting.arms import Arm, group_into_arms, is_factor, plain_text
from ift_lightning.reporting.runs import read_runs


def arms_of(
    folder: Path, words: list[list[str]], configs: list[dict[str, Any]] | None = None
) -> list[Arm]:
    """Return the arms of runs of seeds 0, 1, … with these overrides."""
    folders = [
        write_run(
            folder / str(seed),
            overrides=overrides,
            seed=seed,
            config=configs[seed] if configs else None,
        )
        for seed, overrides in enumerate(words)
    ]
    return group_into_arms(read_runs(folders).runs)


@pytest.mark.parametrize(
    ("first", "second"),
    [("false", "False"), ("1", "1.0"), ("1e-3", "0.001"), ("[0,1]", "[0, 1]"), ("null", "NULL"),
     ("'a b'", '"a b"'), ("1E+2", "100")],
)  # fmt: skip
def test_spellings_of_a_value_are_one_arm(tmp_path: Path, first: str, second: str) -> None:
    (arm,) = arms_of(tmp_path, [[f"peft.config.x={first}"], [f"peft.config.x={second}"]])
    assert arm.seeds == [0, 1]


@pytest.mark.parametrize("text", ["12:30", "2026-01-01", "on", "1_000", "nan", "a1"])
def test_words_that_yaml_would_take_for_something_else_stay_words(text: str) -> None:
    assert plain_text(text) == text


def test_values_that_differ_stay_apart(tmp_path: Path) -> None:
    arms = arms_of(tmp_path, [["peft.config.x=true"], ["peft.config.x=1"], ["peft.config.x=0"]])
    assert [arm.name for arm in arms] == [f"peft.config.x={x}" for x in ("true", "1", "0")]


@pytest.mark.parametrize(
    "option",
    ["sweep.unfair=error", "sweep.reuse=[a]", "sandbox.num_workers=2", "audit.strict=false",
     "hydra.verbose=true", "hydra/launcher=joblib", "trainer.num_threads=1"],
)  # fmt: skip
def test_options_that_change_no_result_make_no_arm(tmp_path: Path, option: str) -> None:
    (arm,) = arms_of(tmp_path, [["peft=lora"], ["peft=lora", option]])
    assert arm.seeds == [0, 1]
    assert not is_factor(option.partition("=")[0])


def test_the_composed_value_counts_where_the_command_line_says_nothing(tmp_path: Path) -> None:
    config = {"optimizer": {"name": "adamw", "lr": 0.001}, "template": {"stop": None}}
    (arm,) = arms_of(
        tmp_path,
        [["optimizer.lr=1e-3", "optimizer=adamw"], ["template.stop=null"]],
        [config, config],
    )
    assert arm.seeds == [0, 1]


def test_groups_that_share_a_name_stay_apart(tmp_path: Path) -> None:
    """data=no_comments is the drills, too."""
    arms = arms_of(
        tmp_path, [["data=drills"], ["data=no_comments"]], [{"data": {"name": "drills"}}] * 2
    )
    assert [arm.name for arm in arms] == ["drills", "no_comments"]
