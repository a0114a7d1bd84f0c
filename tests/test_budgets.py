"""Budgets of whole runs: matched target tokens, matched parameters, or matched time."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from composing import compose_train
from test_train import configured, record_of, run  # noqa: F401

from ift_lightning import assembly
from ift_lightning.config.checks import check_config
from ift_lightning.config.schema import PlanConfig, TrainConfig
from ift_lightning.data.drills import generate_drills
from ift_lightning.errors import UserError
from ift_lightning.planning import plan

LEVELS = ("none", "simple", "normal", "complex")
ALL = "data.require_levels=[none,simple,normal,complex]"


@pytest.fixture
def rows_with_gaps(tmp_path: Path) -> Path:
    """Return a file of drills, every third of which lacks a level."""
    path = tmp_path / "rows.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for index, record in enumerate(generate_drills("train", 30, seed=0)):
            row = record.to_json()
            if index % 3 == 0:
                del row["reasoning"]["normal"]
            file.write(json.dumps(row) + "\n")
    return path


def prepared(tmp_path: Path, *options: str) -> tuple[TrainConfig, Any]:
    config = compose_train(
        f"data.cache_dir={tmp_path}/cache", "trainer.progress_bar=false", *options
    )
    check_config(config)
    tokenizer = assembly.build_tokenizer(config)
    return config, assembly.prepare_data(config, tokenizer, tmp_path / "rejected.jsonl")


@pytest.mark.parametrize(
    "budget", ["budget.max_target_tokens=null", "budget.max_target_tokens=3000"]
)
def test_arms_have_the_same_rows_and_the_same_target_tokens(
    tmp_path: Path, rows_with_gaps: Path, budget: str
) -> None:
    used, rows, by_level, longest = {}, set(), [], 0
    for level in LEVELS:
        config, data = prepared(
            tmp_path,
            "data=jsonl",
            f"data.path={rows_with_gaps}",
            ALL,
            f"cot_level={level}",
            "budget=target_tokens",
            budget,
            "trainer.max_epochs=2.5",
            "data.max_seq_length=768",
        )
        train = data.splits["train"]
        rows.add(train.statistics.ids_fingerprint)
        by_level.append(data.num_target_tokens_by_level)
        assert data.num_rejected == 10
        assert train.statistics.num_target_tokens == data.num_target_tokens_by_level[level]
        planner = assembly.build_planner(config, data)
        num_steps = assembly.number_of_steps(config, planner)
        used[level] = planner.num_target_tokens(num_steps)
        longest = max(longest, int(train.num_targets.max()))
        roles = train.statistics.num_target_tokens_by_role
        assert sum(roles.values()) == train.statistics.num_target_tokens
        assert ("reasoning" in roles) == (level != "none")
    assert len(rows) == 1
    assert all(counts == by_level[0] for counts in by_level)
    assert list(by_level[0].values()) == sorted(by_level[0].values())
    limit = 3000 if "3000" in budget else int(2.5 * by_level[0]["none"])
    for tokens in used.values():
        assert limit - longest < tokens <= limit


def test_the_run_record_tells_reasoning_and_answer_apart_and_the_budget(
    run: Callable[..., Path],  # noqa: F811
    rows_with_gaps: Path,
) -> None:
    record = record_of(
        run(
            f"data.path={rows_with_gaps}",
            "data.max_seq_length=768",
            "model=tiny",
            "cot_level=simple",
            "data.require_levels=[none,simple]",
            "budget=target_tokens",
            "budget.max_target_tokens=900",
            "trainer.max_steps=null",
        )
    )
    data = record["data"]
    roles = data["num_target_tokens_by_role"]
    assert sorted(roles) == ["answer", "end", "reasoning"]
    assert sum(roles.values()) == data["num_target_tokens"]
    assert roles["end"] == data["num_train"]
    assert data["num_target_tokens_by_level"]["simple"] == data["num_target_tokens"]
    assert data["num_target_tokens_by_level"]["none"] == roles["answer"] + roles["end"]
    budget = data["budget"]
    assert budget["name"] == "target_tokens" and budget["max_target_tokens"] == 900
    performance = record["performance"]
    assert performance["num_steps"] == budget["num_steps"]
    assert performance["num_target_tokens_seen"] == budget["num_target_tokens"] <= 900


@pytest.mark.parametrize(
    ("method", "size"),
    [
        ("lora", {"r": 7, "lora_alpha": 14}),
        ("adalora", {"init_r": 7, "target_r": 5, "lora_alpha": 32 * 7 / 24}),
        ("prompt", {"num_virtual_tokens": 120}),
    ],
)
def test_a_budget_of_parameters_is_solved_recorded_and_planned(
    method: str,
    size: dict[str, Any],
    run: Callable[..., Path],  # noqa: F811
    configured: Callable[..., TrainConfig],  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = (
        f"peft={method}",
        "budget=params",
        "budget.max_trainable_parameters=3840",
        "trainer.max_steps=10",
        "data.max_seq_length=256",
        "peft.config.target_modules=[q_proj,v_proj,o_proj,up_proj]"
        if method != "prompt"
        else "peft.config.num_virtual_tokens=8",
    )
    folder = run(*options)
    record = record_of(folder)
    budget = record["data"]["budget"]
    assert budget["size"] == size
    assert budget["num_steps"] == 10
    count = record["model"]["num_trainable_parameters"]
    assert budget["num_trainable_parameters"] == count
    assert budget["deviation"] == pytest.approx(count / 3840 - 1, abs=1e-6)
    assert budget["within_tolerance"] == (abs(count / 3840 - 1) <= 0.1)
    saved = json.loads((folder / "adapter" / "adapter_config.json").read_text(encoding="utf-8"))
    for key, value in size.items():
        assert saved[key] == budget["peft_config"][key] == value
    assert f"{count:,} trainable parameters for a budget of 3,840" in capsys.readouterr().out
    planned = plan(PlanConfig(**vars(configured(*options))))
    assert planned["budget"] == budget
    assert planned["model"]["num_trainable_parameters"] == count
    assert f"{count:,} trainable parameters for a budget of 3,840" in capsys.readouterr().out


def test_a_method_that_cannot_keep_the_budget_says_so_and_fails_the_run(
    run: Callable[..., Path],  # noqa: F811
    tmp_path: Path,
) -> None:
    with pytest.raises(UserError, match="peft=ia3 has no size"):
        run("peft=ia3", "budget=params", "budget.max_trainable_parameters=5000")
    assert record_of(tmp_path / "run")["status"] == "failed"


def test_a_size_that_misses_the_budget_warns(
    run: Callable[..., Path],  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:
    # LoRA on one matrix of 32 x 32 in each of two layers: 128 parameters for each rank.
    options = ("peft.config.target_modules=[q_proj]", "budget=params", "trainer.max_steps=2")
    record = record_of(run(*options, "budget.max_trainable_parameters=180"))
    budget = record["data"]["budget"]
    assert (budget["size"]["r"], budget["within_tolerance"]) == (1, False)
    assert budget["deviation"] == pytest.approx(128 / 180 - 1, abs=1e-6)
    assert "warning: lora: r=1" in capsys.readouterr().out


def test_a_budget_of_time_ends_the_run_and_is_recorded(
    run: Callable[..., Path],  # noqa: F811
    configured: Callable[..., TrainConfig],  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = ("budget=time", "trainer.max_steps=null")
    # Seconds that no step can take less than, so that one step is all there is.
    folder = run(*options, "budget.max_seconds=0.000001")
    record = record_of(folder)
    assert record["status"] == "completed"
    budget, performance = record["data"]["budget"], record["performance"]
    assert budget == {
        "name": "time",
        "max_target_tokens": None,
        "max_seconds": 0.000001,
        "seconds": performance["train_seconds"],
        "num_steps": 1,
        "num_target_tokens": performance["num_target_tokens_seen"],
    }
    assert budget["seconds"] > 0.000001
    assert (folder / "adapter" / "adapter_model.safetensors").is_file()
    assert {"val/loss", "test/loss", "train/loss"} <= set(record["metrics"])
    # More time may be given to a run that is over; other settings may not.
    run(*options, "budget.max_seconds=0.000002", "resume=true")
    with pytest.raises(UserError, match="other settings"):
        run(*options, "budget.max_seconds=1", "optimizer.lr=0.5", "resume=true")
    capsys.readouterr()
    planned = plan(PlanConfig(**vars(configured(*options, "budget.max_seconds=30"))))
    assert planned["work"]["num_steps"] is None
    assert planned["work"]["steps_per_epoch"] == 7
    assert planned["budget"] == {"name": "time", "max_target_tokens": None, "max_seconds": 30.0}
    assert "as many steps of 4 rows as 30 s hold" in capsys.readouterr().out
