"""The command line of sweeps, before Hydra sees it."""

from __future__ import annotations

import pytest
from hydra._internal.utils import get_args_parser

from ift_lightning.config.entry import point_folder
from ift_lightning.errors import UserError
from ift_lightning.sweeps.arguments import sweep_arguments

EXCLUDE = "hydra.job.config.override_dirname.exclude_keys="


def without_names(words: list[str]) -> list[str]:
    return [word for word in words if not word.startswith(EXCLUDE)]


def names_left_out(words: list[str]) -> list[str]:
    (word,) = [word for word in words if word.startswith(EXCLUDE)]
    return [name.strip("'") for name in word.removeprefix(f"{EXCLUDE}[").rstrip("]").split(",")]


def test_seeds_become_an_axis_of_a_sweep() -> None:
    found = without_names(sweep_arguments(["peft=lora", "seeds=3"]))
    assert found == ["peft=lora", "seed=0,1,2", "hydra.mode=MULTIRUN"]
    assert without_names(sweep_arguments(["--multirun", "seeds=2"])) == ["--multirun", "seed=0,1"]


@pytest.mark.parametrize(
    "words",
    [
        ["peft=lora,dora", "--multirun"],
        ["--multirun", "peft=lora,dora"],
        ["precision=bf16_true", "--cfg", "job"],
        ["--cfg", "job", "precision=bf16_true"],
        ["--cfg", "job"],
        ["peft=lora", "seeds=2", "--multirun"],
        ["seeds=2", "peft=lora", "--multirun", "--info", "all"],
        [],
    ],
)
def test_hydra_understands_flags_on_either_side(words: list[str]) -> None:
    found = sweep_arguments(words)
    parsed, unknown = get_args_parser().parse_known_args(found)
    assert unknown == []
    assert len(names_left_out(parsed.overrides)) >= 1
    assert parsed.multirun is ("--multirun" in words)
    assert parsed.cfg == ("job" if "--cfg" in words else None)


def test_one_seed_is_no_sweep() -> None:
    assert without_names(sweep_arguments(["seeds=1"])) == ["seed=0"]


@pytest.mark.parametrize("text", ["0", "-1", "three", "1.5", "", "0,1"])
def test_seeds_is_a_number(text: str) -> None:
    with pytest.raises(UserError, match=f"^seeds={text} is to be a number of seeds"):
        sweep_arguments([f"seeds={text}"])


def test_seeds_and_seed_contradict_each_other() -> None:
    with pytest.raises(UserError, match="seeds=3 is short for seed=0,1,2"):
        sweep_arguments(["seeds=2", "seed=1,5"])


def test_names_hold_only_what_differs() -> None:
    words = ["-m", "peft=lora,prefix", "++optimizer.lr=1e-3", "data.path=/a/b", "seed=range(0,3)"]
    assert names_left_out(sweep_arguments(words)) == ["experiment", "optimizer.lr", "data.path"]


def test_words_that_are_no_overrides_are_left_to_hydra() -> None:
    words = ["--help", "peft==lora", "{"]
    assert without_names(sweep_arguments(words)) == words


def test_folders_are_paths_of_one_part() -> None:
    assert point_folder("peft=lora,seed=0", 3) == "peft=lora,seed=0"
    assert point_folder("data.path=/a b/c,seed=0", 3) == "data.path=_a_b_c,seed=0"
    assert point_folder("", 3) == "3"
    assert point_folder("../..", 3) == "3"


def test_long_names_are_cut_and_stay_apart() -> None:
    long = [point_folder(f"data.path={'x' * 300}{end}", 0) for end in "ab"]
    assert len(set(long)) == 2
    assert all(len(name.encode()) < 255 for name in long)
