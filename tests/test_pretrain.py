"""``python -m ift_lightning.pretrain``: learns, and goes on after a kill as if nothing had been."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import AutoModelForCausalLM, AutoTokenizer

SMALL = [
    "num_steps=12", "save_every_n_steps=4", "val_every_n_steps=5", "log_every_n_steps=2",
    "vocabulary.size=320", "vocabulary.num_texts=100", "text.block_length=64",
    "text.rows_per_batch=8", "text.num_val_batches=2", "text.library_share=0.0",
    "architecture.hidden_size=96", "architecture.intermediate_size=64",
    "architecture.num_layers=2", "architecture.max_positions=128", "progress_bar=false",
    "num_threads=1",
]  # fmt: skip


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "ift_lightning.pretrain", f"hydra.run.dir={folder}"]
    return subprocess.Popen(
        [*command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def finish(process: subprocess.Popen[str]) -> str:
    output, errors = process.communicate(timeout=200)
    assert process.returncode == 0, errors
    return output


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pretrain") / "run"
    finish(start(folder, *SMALL))
    return folder


def test_the_folder_is_a_model_that_has_learned(whole_run: Path) -> None:
    record = json.loads((whole_run / "run.json").read_text())
    assert record["status"] == "completed"
    assert record["metrics"]["val/loss"] < 0.8 * math.log(320)
    assert record["data"]["num_tokens"] == 12 * 8 * 64
    model = AutoModelForCausalLM.from_pretrained(whole_run / "model")
    tokenizer = AutoTokenizer.from_pretrained(whole_run / "model")
    assert model.dtype == torch.bfloat16
    assert model.config.eos_token_id == tokenizer.eos_token_id
    assert len(tokenizer) == model.config.vocab_size == 320
    assert model.num_parameters() == record["model"]["num_parameters"]


def test_curves_are_written(whole_run: Path) -> None:
    events = EventAccumulator(str(whole_run / "tensorboard")).Reload()
    steps = [event.step for event in events.Scalars("train/loss")]
    assert steps == [2, 4, 6, 8, 10, 12]
    # Lightning writes what validation logs at the number of the last batch, from 0.
    assert [event.step for event in events.Scalars("val/loss")] == [4, 9, 11]
    factors = {event.step: event.value for event in events.Scalars("train/learning_rate_factor")}
    assert factors[6] == 1.0 and 0 < factors[10] < 1


def test_killed_run_goes_on_to_the_same_weights(whole_run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    process = start(folder, *SMALL)
    checkpoint = folder / "checkpoints" / "last.ckpt"
    while not checkpoint.exists() and process.poll() is None:
        time.sleep(0.01)
    process.kill()
    process.communicate()
    assert json.loads((folder / "run.json").read_text())["status"] == "running"
    finish(start(folder, *SMALL, "resume=true"))
    expected = load_file(whole_run / "model" / "model.safetensors")
    resumed = load_file(folder / "model" / "model.safetensors")
    assert expected.keys() == resumed.keys()
    assert all(torch.equal(expected[name], resumed[name]) for name in expected)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["num_step=3"], ["Did you mean", "num_steps"]),
        (["num_steps=0"], ["num_steps=0", "at least 1"]),
        (["text.block_length=4096"], ["text.block_length=4096", "max_positions=1024"]),
        (["architecture.num_layers=1"], ["copying_start=false"]),
        (["vocabulary.size=100"], ["vocabulary.size=100", "at least 259"]),
        (["resume=true"], ["no checkpoint", "hydra.run.dir"]),
    ],
)
def test_refusals(arguments: list[str], expected: list[str], tmp_path: Path) -> None:
    process = start(tmp_path / "run", *arguments)
    _, errors = process.communicate(timeout=100)
    assert process.returncode == 1
    assert all(text in errors for text in expected), errors
    assert "Traceback" not in errors


def test_resuming_with_other_settings_is_refused(whole_run: Path) -> None:
    process = start(whole_run, *SMALL, "seed=1", "resume=true")
    _, errors = process.communicate(timeout=100)
    assert process.returncode == 1
    assert "was started with other settings" in errors
