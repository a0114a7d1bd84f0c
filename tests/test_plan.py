"""What a plan says is what a run does, and what papers report."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from composing import compose_train
from conftest import make_model
from test_train import configured, record_of, run, write_rows  # noqa: F401

from ift_lightning import assembly
from ift_lightning.config.schema import PlanConfig, TrainConfig
from ift_lightning.planning import build_meta_model, plan


def planned(config: TrainConfig, **more: Any) -> dict[str, Any]:
    return plan(PlanConfig(**vars(config), **more))


@pytest.mark.parametrize("method", ["lora", "prefix", "ptuning", "ia3", "full"])
def test_plan_counts_what_the_run_counts(
    method: str,
    configured: Callable[..., TrainConfig],  # noqa: F811
    run: Callable[..., Path],  # noqa: F811
    tmp_path: Path,
) -> None:
    options = (f"peft={method}", "trainer.max_steps=null", "trainer.max_epochs=1")
    output = tmp_path / "plan.json"
    result = planned(configured(*options), output=str(output))
    assert json.loads(output.read_text(encoding="utf-8"))["work"] == result["work"]
    record = record_of(run(*options))
    for name in ("num_parameters", "num_trainable_parameters"):
        assert result["model"][name] == record["model"][name]
    performance = record["performance"]
    assert result["work"]["num_steps"] == performance["num_steps"]
    assert result["work"]["num_tokens"] == performance["num_tokens_seen"]
    assert result["work"]["num_target_tokens"] == performance["num_target_tokens_seen"]


def test_llama_2_7b_has_the_published_number_of_parameters(tmp_path: Path, tokenizer: Any) -> None:
    from transformers import LlamaConfig

    LlamaConfig(
        vocab_size=32000,
        hidden_size=4096,
        intermediate_size=11008,
        num_hidden_layers=32,
        num_attention_heads=32,
    ).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    config = compose_train(
        "model=local",
        f"model.path={tmp_path}",
        "peft.config.r=16",
        "peft.config.target_modules=[q_proj,v_proj]",
    )
    model = build_meta_model(config, tokenizer, 10)
    trainable, total = model.get_nb_trainable_parameters()
    assert (total, trainable) == (6_746_804_224, 8_388_608)
    assert all(parameter.device.type == "meta" for parameter in model.parameters())


def test_weights_are_not_needed(
    tmp_path: Path,
    tokenizer: Any,
    configured: Callable[..., TrainConfig],  # noqa: F811
) -> None:
    folder = tmp_path / "configuration-only"
    make_model("qwen2", len(tokenizer)).config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    result = planned(configured(f"model.path={folder}"))
    assert result["model"]["family"] == "qwen2"


def test_memory_of_weights_follows_the_precision(tmp_path: Path, tokenizer: Any) -> None:
    from ift_lightning.planning import estimate_memory

    folder = tmp_path / "model"
    make_model("llama", len(tokenizer)).config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    work = {"largest_micro_batch_tokens": 100}
    frozen = {}
    for precision in ("fp32", "bf16_true", "int8", "nf4"):
        config = compose_train("model=local", f"model.path={folder}", f"precision={precision}")
        model = build_meta_model(config, tokenizer, 10)
        frozen[precision] = estimate_memory(config, model, work)["frozen_weights"]
    count = sum(p.numel() for p in model.parameters() if not p.requires_grad)
    assert frozen["fp32"] == 4 * count
    assert frozen["bf16_true"] == 2 * count
    assert assembly.weights_dtype(config) is torch.float32  # nf4 computes in fp32 on a CPU
    assert frozen["nf4"] < frozen["int8"] < frozen["fp32"]
