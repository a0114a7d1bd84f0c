"""Arms of a comparison of reasoning levels: the same rows, and matched target tokens."""

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
from ift_lightning.config.schema import TrainConfig
from ift_lightning.data.drills import generate_drills

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
