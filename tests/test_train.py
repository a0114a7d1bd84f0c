"""Whole runs on a small random model: what a run leaves behind, and what bad input gets."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from composing import compose_train

from ift_lightning.config.schema import TrainConfig
from ift_lightning.errors import UserError

Run = Callable[..., Path]


def write_rows(path: Path, count: int = 40) -> Path:
    rows = [
        {
            "instruction": f"Write a function that adds {number} to its argument.",
            "input": "" if number % 2 else "def add(value):",
            "output": f"def add(value):\n    # add {number}\n    return value + {number}\n",
        }
        for number in range(count)
    ]
    path.write_text(json.dumps(rows), encoding="utf-8")
    return path


@pytest.fixture
def configured(tmp_path: Path, model_folder: Callable[[str], Path]) -> Callable[..., TrainConfig]:
    """Return a function that composes a short run on 40 rows."""

    def make(*overrides: str, folder: str = "run", path: Path | None = None) -> TrainConfig:
        data = path or write_rows(tmp_path / "rows.json")
        return compose_train(
            "model=local",
            f"model.path={model_folder('llama')}",
            "data=jsonl",
            f"data.path={data}",
            "data.val_fraction=0.2",
            "data.test_fraction=0.2",
            f"data.cache_dir={tmp_path / 'cache'}",
            "trainer.max_steps=4",
            "trainer.global_batch_size=4",
            "trainer.micro_batch_size=2",
            "trainer.log_every_n_steps=1",
            "trainer.progress_bar=false",
            *overrides,
            run_dir=tmp_path / folder,
        )

    return make


@pytest.fixture
def run(configured: Callable[..., TrainConfig]) -> Run:
    from ift_lightning.finetuning import train

    def start(*overrides: str, **keywords: Any) -> Path:
        config = configured(*overrides, **keywords)
        train(config)
        return Path(config.run_dir)

    return start


def record_of(folder: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    return record


def scalars_of(folder: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    return {
        tag: [(event.step, event.value) for event in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }


def test_run_leaves_everything_behind(run: Run) -> None:
    folder = run()
    record = record_of(folder)
    assert record["schema"] == 1
    assert record["status"] == "completed"
    assert record["started_at"] <= record["finished_at"]
    assert record["model"]["family"] == "llama"
    assert 0 < record["model"]["num_trainable_parameters"] < record["model"]["num_parameters"]
    assert record["model"]["weights_fingerprint"].startswith("sha256:")
    data = record["data"]
    assert data["num_train"] + data["num_val"] + data["num_test"] == 40
    assert 0 < data["num_target_tokens"] < data["num_tokens"]
    for name in ("train/loss", "val/loss", "test/loss", "test/perplexity", "before/test/loss"):
        assert record["metrics"][name] > 0
    assert record["audit"]["mask"]["train"]["end_supervised_share"] == 1.0
    audit = record["audit"]["trainability"]
    assert audit["passed"]
    assert audit["reload_max_difference"] < 1e-5
    performance = record["performance"]
    assert performance["num_steps"] == 4
    for name in ("train_seconds", "eval_seconds", "tokens_per_second", "target_tokens_per_second"):
        assert performance[name] > 0
    assert set(performance["peak_memory_bytes"]) == {"train", "eval"}
    assert set(record["environment"]) >= {
        "python",
        "packages",
        "platform",
        "hardware",
        "git_commit",
        "git_dirty",
        "sandbox_level",
    }
    assert (folder / "checkpoints" / "best.ckpt").is_file()
    assert (folder / "checkpoints" / "last.ckpt").is_file()
    assert (folder / "adapter" / "adapter_model.safetensors").is_file()
    assert not (folder / "rejected.jsonl").exists()


def test_dashboard_has_every_curve(run: Run) -> None:
    folder = run("peft=adalora", "trainer.max_steps=8")
    scalars = scalars_of(folder)
    for tag in (
        "train/loss",
        "train/learning_rate",
        "train/gradient_norm",
        "performance/tokens_per_second",
        "performance/target_tokens_per_second",
        "performance/peak_memory_gib",
        "adalora/total_rank",
    ):
        assert [step for step, _ in scalars[tag]] == list(range(1, 9)), tag
    assert "val/loss" in scalars
    ranks = [value for _, value in scalars["adalora/total_rank"]]
    assert ranks[-1] < max(ranks)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    text = events.Tensors("samples/0/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "⟦def add(value):" in text
    assert "### Response:" in text.split("⟦")[0]


def test_loss_falls(run: Run) -> None:
    metrics = record_of(run("peft=full", "trainer.max_steps=40", "optimizer.lr=5e-3"))["metrics"]
    assert metrics["test/loss"] < 0.5 * metrics["before/test/loss"]


def test_the_base_is_measured_without_the_adapter(run: Run) -> None:
    """Untrained virtual tokens change what a model says; the base knows nothing of them."""
    lora = record_of(run("peft=lora", folder="lora"))["metrics"]
    prompt = record_of(run("peft=prompt", folder="prompt"))["metrics"]
    assert lora["before/test/loss"] == pytest.approx(prompt["before/test/loss"], abs=1e-7)


def test_measuring_the_base_does_not_change_training(run: Run) -> None:
    with_it = record_of(run("measure_before=true", folder="a"))
    without = record_of(run("measure_before=false", folder="b"))
    assert with_it["metrics"]["val/loss"] == without["metrics"]["val/loss"]
    assert "before/test/loss" not in without["metrics"]


def test_saved_adapter_loads_with_peft_alone(run: Run, model_folder: Callable[[str], Path]) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    folder = run("optimizer.lr=1e-2")
    base = AutoModelForCausalLM.from_pretrained(model_folder("llama"))
    ids = torch.arange(5, 15).unsqueeze(0)
    before = base(ids).logits.detach().clone()
    tuned = PeftModel.from_pretrained(base, str(folder / "adapter"))
    assert not torch.allclose(before, tuned(ids).logits, atol=1e-3)


def test_second_run_takes_its_tokens_from_the_cache(run: Run) -> None:
    assert record_of(run(folder="a"))["data"]["from_cache"] is False
    second = record_of(run("peft=prompt", folder="b"))
    assert second["data"]["from_cache"] is True


def test_a_single_step_is_too_short_to_judge_by(run: Run) -> None:
    audit = record_of(run("trainer.max_steps=1"))["audit"]["trainability"]
    assert audit["passed"]
    assert audit["conclusive"] is False


def test_resumed_run_goes_on_to_the_same_weights(run: Run, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    whole = run("trainer.max_steps=6", "scheduler=constant", folder="whole")
    run("trainer.max_steps=3", "scheduler=constant", folder="halves")
    resumed = run("trainer.max_steps=6", "scheduler=constant", "resume=true", folder="halves")
    expected = load_file(whole / "adapter" / "adapter_model.safetensors")
    found = load_file(resumed / "adapter" / "adapter_model.safetensors")
    assert all((expected[name] == found[name]).all() for name in expected)
    assert record_of(resumed)["performance"]["num_steps"] == 6


@pytest.mark.parametrize("method", ["lora", "adalora"])
def test_a_run_killed_behind_its_last_step_only_has_to_end(
    run: Run, tmp_path: Path, method: str
) -> None:
    import shutil

    words = (f"peft={method}", "trainer.max_steps=10")
    whole = run(*words, folder="whole")
    killed = tmp_path / "killed"
    shutil.copytree(whole, killed)
    shutil.rmtree(killed / "adapter")
    record = record_of(killed)
    for name in ("test/loss", "train/loss"):
        del record["metrics"][name]
    kept = {key: record[key] for key in record if key not in ("audit", "performance")}
    (killed / "run.json").write_text(
        json.dumps(kept | {"status": "running", "audit": {}, "performance": {}})
    )
    resumed = record_of(run(*words, "resume=true", folder="killed"))
    expected = record_of(whole)
    assert resumed["status"] == "completed"
    assert resumed["audit"]["trainability"] == expected["audit"]["trainability"]
    assert resumed["performance"]["num_steps"] == 10
    assert resumed["performance"]["num_tokens_seen"] == expected["performance"]["num_tokens_seen"]
    name = "adapter/adapter_model.safetensors"
    assert (killed / name).read_bytes() == (whole / name).read_bytes()
    assert resumed["metrics"]["test/loss"] == expected["metrics"]["test/loss"]


def test_resume_without_a_checkpoint_says_where_it_looked(run: Run) -> None:
    with pytest.raises(UserError, match=r"last\.ckpt.*hydra\.run\.dir"):
        run("resume=true")


def test_resume_with_other_settings_is_refused(run: Run) -> None:
    run("trainer.max_steps=2", folder="changing")
    with pytest.raises(UserError, match="other settings"):
        run("trainer.max_steps=4", "resume=true", "optimizer.lr=0.5", folder="changing")


def test_bad_rows_stop_the_run_and_are_all_named(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    good = {"instruction": "Add.", "output": "a + b"}
    lines = [json.dumps(good | {"id": str(n)}) for n in range(20)]
    lines[4] = json.dumps({"id": "x", "instruction": "Add.", "output": ""})
    lines[9] = '{"instruction": "Add.", "output": '
    lines[14] = json.dumps({"id": "0", "instruction": "Add.", "output": "twice"})
    path.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(UserError) as error:
        run(path=path)
    for text in ("bad.jsonl:5", "output", "bad.jsonl:10", "bad.jsonl:15", "data.bad_rows=skip"):
        assert text in str(error.value)
    assert record_of(tmp_path / "run")["status"] == "failed"
    rejected = (tmp_path / "run" / "rejected.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["line"] for line in rejected] == [5, 10, 15]
    folder = run("data.bad_rows=skip", path=path, folder="skipping")
    record = record_of(folder)
    assert record["data"]["num_rejected"] == 3
    assert sum(record["data"][f"num_{name}"] for name in ("train", "val", "test")) == 17
    assert len((folder / "rejected.jsonl").read_text(encoding="utf-8").splitlines()) == 3


def test_row_longer_than_the_limit_is_refused_or_its_prompt_cut(run: Run, tmp_path: Path) -> None:
    path = write_rows(tmp_path / "long.json", 20)
    with pytest.raises(UserError, match=r"data\.max_seq_length is 90.*data\.overflow=cut_prompt"):
        run("data.max_seq_length=90", path=path)
    record = record_of(run("data.max_seq_length=90", "data.overflow=cut_prompt", path=path))
    assert record["data"]["num_truncated"] > 0
    assert record["audit"]["mask"]["train"]["longest_row"] <= 90
    assert record["audit"]["mask"]["train"]["num_answers_cut"] == 0


def test_without_validation_rows_the_last_weights_are_kept(run: Run) -> None:
    folder = run("data.val_fraction=0", "data.test_fraction=0")
    record = record_of(folder)
    assert record["status"] == "completed"
    assert "val/loss" not in record["metrics"]
    assert record["audit"]["trainability"]["passed"]


def test_failed_run_says_so(run: Run, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        run(f"model.path={tmp_path / 'nowhere'}")
    record = record_of(tmp_path / "run")
    assert record["status"] == "failed"
    assert "no such folder" in record["error"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "method", ["lora", "qlora", "adalora", "prefix", "ptuning", "prompt", "ia3", "dora", "full"]
)
def test_every_method_runs_from_end_to_end(run: Run, method: str) -> None:
    record = record_of(run(f"peft={method}", "trainer.max_steps=10"))
    assert record["status"] == "completed"
    assert record["audit"]["trainability"]["passed"]


@pytest.mark.slow
def test_sweep_on_the_command_line(tmp_path: Path, model_folder: Callable[[str], Path]) -> None:
    path = write_rows(tmp_path / "rows.json")
    result = subprocess.run(
        [
            sys.executable,
            "-m",
            "ift_lightning.train",
            "--multirun",
            "peft=lora,prefix,ptuning",
            "model=local",
            f"model.path={model_folder('llama')}",
            "data=jsonl",
            f"data.path={path}",
            f"data.cache_dir={tmp_path / 'cache'}",
            "trainer=smoke",
            "trainer.progress_bar=false",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    records = [record_of(path.parent) for path in tmp_path.glob("outputs/multirun/*/*/*/run.json")]
    assert sorted(record["name"] for record in records) == [
        "local-lora-jsonl",
        "local-prefix-jsonl",
        "local-ptuning-jsonl",
    ]
    assert {record["status"] for record in records} == {"completed"}
    assert len({record["data"]["ids_fingerprint"]["train"] for record in records}) == 1


def test_weights_that_are_no_numbers_fail_the_run(run: Run, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no numbers: training has diverged"):
        run("optimizer.lr=1e30", "trainer.gradient_clip_norm=null", "scheduler=constant")
    (path,) = tmp_path.rglob("run.json")
    assert json.loads(path.read_text())["status"] == "failed"
