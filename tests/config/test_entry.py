"""What a command line answers: fast, and in words that help."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hydra.errors import HydraException

from ift_lightning.config.entry import (
    _reader_is_gone,
    explain_composition_error,
    open_keys,
    unused_path,
)
from ift_lightning.config.schema import TrainConfig


def run_train(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ift_lightning.train", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["peft=lroa"], ["peft=lroa", "Did you mean 'lora'", "adalora", "ptuning"]),
        (["experiment=peft"], ["experiment=peft", "peft_compare"]),
        (["hydra/launcher=slurm"], ["submitit_slurm", "submitit_local", "joblib", "basic"]),
        (["trainer.max_stps=3"], ["trainer.max_stps", "Did you mean 'max_steps'", "max_epochs"]),
        (["pft=lora"], ["Did you mean 'peft'"]),
        (["data.overflow=cut"], ["data.overflow", "reject", "cut_prompt"]),
        (["trainer.max_steps=many"], ["trainer.max_steps", "many", "Integer"]),
        (["+trainer.max_stepps=3"], ["Did you mean 'max_steps'"]),
        (["model=local"], ["model.path", "needs a value"]),
        (["data=jsonl"], ["data=jsonl", "data.path=FILE"]),
        (["strategy=fsdp", "peft=qlora"], ["strategy=fsdp", "precision=nf4", "strategy=ddp"]),
        (["hydra.run.dir=/proc/nowhere/run"], ["/proc/nowhere", "No such file or directory"]),
        (["data=humaneval"], ["benchmark", "no rows to train on"]),
    ],
)
def test_wrong_option_is_answered_with_the_valid_ones(
    arguments: list[str], expected: list[str], tmp_path: Path
) -> None:
    result = run_train(*arguments, cwd=tmp_path)
    assert result.returncode == 1
    for text in expected:
        assert text in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("arguments", [["--help"], ["trainer.max_stps=3"], ["peft=lroa"]])
def test_nothing_heavy_is_imported_before_the_config_stands(
    arguments: list[str], tmp_path: Path
) -> None:
    program = (
        "import sys, runpy\n"
        f"sys.argv = ['train', *{arguments!r}]\n"
        "try:\n"
        "    runpy.run_module('ift_lightning.train', run_name='__main__')\n"
        "except SystemExit:\n"
        "    pass\n"
        "heavy = {'torch', 'lightning', 'transformers', 'peft', 'datasets'} & set(sys.modules)\n"
        "print('heavy:', sorted(heavy))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "heavy: []" in result.stdout


def test_help_lists_groups_and_options(tmp_path: Path) -> None:
    result = run_train("--help", cwd=tmp_path)
    assert result.returncode == 0
    assert "peft: adalora, dora, full, ia3, lora, prefix, prompt, ptuning, qlora" in result.stdout


def test_unused_path_counts_up(tmp_path: Path) -> None:
    path = str(tmp_path / "run")
    assert unused_path(path) == path
    Path(path).mkdir()
    Path(f"{path}_1").mkdir()
    assert unused_path(path) == f"{path}_2"


def test_open_keys_are_the_dictionaries_of_other_libraries() -> None:
    assert set(open_keys(TrainConfig)) == {
        "precision.quantization",
        "data.fields",
        "peft.config",
        "optimizer.config",
        "scheduler.options",
        "callbacks.extra",
        "logger.loggers",
        "generation.engine_options",
        "strategy.config",
    }


def test_a_missing_sweeper_is_named_with_its_extra() -> None:
    error = HydraException("In 'hydra/config': Could not find 'hydra/sweeper/optuna'")
    assert "'.[optuna]'" in explain_composition_error(error, TrainConfig)


PRINTS_A_LOT = """
import sys
from ift_lightning.config.entry import entry_point
from ift_lightning.config.schema import TrainConfig

@entry_point("train", TrainConfig)
def main(config):
    print("begin", flush=True)
    for number in range(int(sys.argv.pop())):
        print(number)

if __name__ == "__main__":
    main()
"""


@pytest.mark.parametrize("num_lines", [3, 200_000])
def test_a_reader_that_stops_gets_no_traceback(num_lines: int, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PRINTS_A_LOT.replace("sys.argv.pop()", str(num_lines)))
    options = ["hydra.run.dir=.", "hydra.output_subdir=null"]
    with subprocess.Popen(
        [sys.executable, "program.py", *options],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline() == "begin\n"
        process.stdout.close()
        errors = process.stderr.read()
        # As a shell reports what SIGPIPE ended; the last lines may be out before the reader goes.
        assert process.wait(60) == 141 or (num_lines == 3 and process.returncode == 0)
    assert "Traceback" not in errors and "BrokenPipe" not in errors


def test_a_broken_pipe_of_another_kind_is_a_defect(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not _reader_is_gone()
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as stream:
        monkeypatch.setattr(sys, "__stdout__", stream)
        assert not _reader_is_gone()
        os.close(reading)
        assert _reader_is_gone()
