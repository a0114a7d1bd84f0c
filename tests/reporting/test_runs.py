"""Run folders: which count, which are left out and why, and how they make arms."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from run_folders import passes, write_run

from ift_lightning.errors import UserError
from ift_lightning.reporting.arms import group_into_arms
from ift_lightning.reporting.runs import read_run, read_runs, read_sweep
from ift_lightning.types import RunStatus


def test_a_sweep_names_every_run_that_does_not_count(tmp_path: Path) -> None:
    write_run(tmp_path / "0", overrides=["peft=lora"])
    write_run(tmp_path / "2", status=RunStatus.FAILED, changes={"error": "out of memory"})
    write_run(tmp_path / "10", status=RunStatus.RUNNING)
    write_run(tmp_path / "11", changes={"schema": 7})
    (tmp_path / "12").mkdir()
    (tmp_path / "13").mkdir()
    (tmp_path / "13" / "run.json").write_text('{"schema": 1, ', encoding="utf-8")
    (tmp_path / ".submitit").mkdir()

    found = read_sweep(tmp_path)

    assert [run.folder.name for run in found.runs] == ["0"]
    reasons = {item.folder.name: item.reason for item in found.left_out}
    assert list(reasons) == ["2", "10", "11", "13", "12"]
    assert reasons["2"] == "its status is 'failed': out of memory"
    assert reasons["10"] == "its status is 'running'"
    assert "schema 7" in reasons["11"]
    assert "cannot be read" in reasons["13"]
    assert "never started" in reasons["12"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"metrics": [1]}, "'metrics' has to be an object"),
        ({"metrics": {"test/loss": "low"}}, "metric 'test/loss' is no number"),
        ({"seed": None}, "'seed' is missing"),
        ({"model": None}, "'model' has to be an object"),
    ],
)
def test_a_record_of_another_form_is_refused(tmp_path: Path, changes: dict, words: str) -> None:
    folder = write_run(tmp_path / "run", changes=changes)
    with pytest.raises(UserError, match="run.json") as error:
        read_run(folder)
    assert words in str(error.value)


def test_a_diverged_metric_is_no_number_but_does_not_spoil_the_run(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "r", metrics={"test/loss": None, "val/loss": 2}))
    assert run.metrics == {"val/loss": 2.0}


def test_a_folder_without_runs_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no run.json below it"):
        read_sweep(tmp_path)
    with pytest.raises(UserError, match="no such folder"):
        read_sweep(tmp_path / "missing")


@pytest.mark.parametrize(
    ("line", "words"),
    [("[1]", "predictions.jsonl:1"), ("{", "not valid JSON"), ('{"id": 3}', "string 'id'")],
)
def test_a_bad_prediction_is_named_with_its_line(tmp_path: Path, line: str, words: str) -> None:
    folder = write_run(tmp_path / "r", answers=[])
    (folder / "predictions.jsonl").write_text(line + "\n", encoding="utf-8")
    with pytest.raises(UserError, match=words):
        read_run(folder).predictions  # noqa: B018


def test_verdicts_excluded_rows_and_samples_are_read(tmp_path: Path) -> None:
    lines = passes([1, 0, 1])
    lines[1]["excluded"] = "its reference fails"
    second = dict(lines[0], sample=1, verdict="timeout", metrics={"executed": True, "class": "x"})
    predictions = read_run(write_run(tmp_path / "r", answers=[*lines, second])).predictions
    assert predictions is not None
    assert [len(answers) for answers in predictions.by_problem.values()] == [2, 1]
    assert predictions.excluded == {"p1": "its reference fails"}
    assert predictions.num_samples == 2
    assert predictions.answers[3].scores == {"executed": 1.0, "pass": 0.0}
    assert predictions.answers[3].labels == {"class": "x"}
    assert predictions.mean_tokens() == 12


def test_seeds_are_replicates_of_an_arm(tmp_path: Path) -> None:
    folders = [
        write_run(tmp_path / f"{n}", overrides=[f"peft={peft}", "trainer.max_steps=5"], seed=seed)
        for n, (peft, seed) in enumerate([("lora", 1), ("lora", 0), ("prompt", 0), ("prompt", 1)])
    ]
    arms = group_into_arms(read_runs(folders).runs)
    assert [(arm.name, arm.seeds) for arm in arms] == [("lora", [0, 1]), ("prompt", [0, 1])]
    assert arms[0].factors == {"peft": "lora"}


def test_what_only_one_command_line_overrides_is_looked_up_in_the_others_config(
    tmp_path: Path,
) -> None:
    first = write_run(
        tmp_path / "a", config={"peft": {"name": "lora", "config": {"r": 16}}, "seed": 0}
    )
    second = write_run(tmp_path / "b", overrides=["peft=prompt", "++peft.config.r=4"])
    arms = group_into_arms(read_runs([first, second]).runs)
    assert [arm.factors for arm in arms] == [
        {"peft": "lora", "peft.config.r": "16"},
        {"peft": "prompt", "peft.config.r": "4"},
    ]
    assert arms[0].name == "peft=lora, peft.config.r=16"


def test_numbers_and_plain_words_are_named_with_their_option(tmp_path: Path) -> None:
    def names(values: list[str]) -> list[str]:
        folder = tmp_path / values[1]
        runs = [write_run(folder / v, overrides=[f"peft.config.r={v}"]) for v in values]
        return [arm.name for arm in group_into_arms(read_runs(runs).runs)]

    assert names(["8", "16"]) == ["peft.config.r=8", "peft.config.r=16"]
    assert names(["1e-4", "2e-4"]) == ["peft.config.r=1e-4", "peft.config.r=2e-4"]
    assert names(["lora", "default"]) == ["peft.config.r=lora", "peft.config.r=default"]
    assert names(["lora", "ia3"]) == ["lora", "ia3"]


def test_display_options_make_no_arms(tmp_path: Path) -> None:
    folders = [
        write_run(tmp_path / "0", overrides=["trainer.progress_bar=false", "logger=csv"]),
        write_run(tmp_path / "1", overrides=["hydra.run.dir=x"], seed=1),
    ]
    (arm,) = group_into_arms(read_runs(folders).runs)
    assert arm.name == "tiny-lora-drills"
    assert arm.seeds == [0, 1]


def test_the_same_run_twice_is_refused(tmp_path: Path) -> None:
    folders = [write_run(tmp_path / name, overrides=["peft=lora"]) for name in "ab"]
    folders.append(write_run(tmp_path / "c", overrides=["peft=ia3"]))
    with pytest.raises(UserError, match="same arm with the same seed 0"):
        group_into_arms(read_runs(folders).runs)


def test_a_record_of_training_is_read_as_it_is_written(tmp_path: Path) -> None:
    from ift_lightning.training.run_record import RunRecorder
    from ift_lightning.types import RunRecord

    record = RunRecord(name="x", seed=3, overrides=["peft=lora"], config_fingerprint="f")
    with RunRecorder(tmp_path, record).running():
        record.metrics["test/loss"] = float("nan")
    assert json.loads((tmp_path / "run.json").read_text())["metrics"] == {"test/loss": None}
    assert read_run(tmp_path).overrides == {"peft": "lora"}
