"""Every option of every group composes, and short cuts give way to explicit choices."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
from composing import compose_train

from ift_lightning.config.entry import config_dir
from ift_lightning.config.schema import TrainConfig

# The names that users and documents rely on. The first of each group is the default.
CONTRACT = {
    "model": "tiny local qwen2_5_coder_0_5b qwen2_5_coder_1_5b qwen2_5_coder_7b_instruct qwen3_4b "
    "codellama_7b starcoder2_3b llama2_7b",
    "peft": "lora qlora adalora prefix ptuning prompt ia3 dora full",
    "data": "drills standard no_comments jsonl code_alpaca dolly defects humaneval mbpp docstrings",
    "data_variant": "standard no_comments reverse",
    "cot_level": "none simple normal complex",
    "template": "alpaca zh_instruction zh_sft chat chatml llama2_chat defect_judgement "
    "reverse_instruction completion",
    "precision": "fp32 bf16_mixed bf16_true fp16_mixed int8 nf4",
    "strategy": "single ddp fsdp deepspeed",
    "attention": "auto sdpa eager flash_attention_2",
    "generation": "greedy sampling",
    "logger": "tensorboard csv wandb none",
    "metrics": "default code text judgement all none",
    "experiment": "peft_compare comments_compare cot_compare cot_complexity "
    "instruction_data_compare lora_vs_full before_after_lora before_after_qlora defect_judgement "
    "sft_vs_instruction reverse_instruction attention_compare precision_compare strategy_compare",
}
OPTIONS = sorted(
    (path.parent.name, path.stem)
    for path in config_dir().glob("*/*.yaml")
    if path.parent.name not in ("task", "teacher", "cot_prompts")  # of prepare alone
)


def test_every_promised_option_has_a_file() -> None:
    for group, names in CONTRACT.items():
        promised = set(names.split())
        assert promised <= {name for folder, name in OPTIONS if folder == group}, group


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_option_composes(group: str, option: str) -> None:
    overrides = [f"{group}={option}"]
    if (group, option) == ("model", "local"):
        overrides.append("model.path=folder")
    config = compose_train(*overrides)
    aliases = {("data", "standard"): "drills", ("data", "no_comments"): "drills"}
    if group not in ("experiment", "trainer"):
        assert getattr(config, group).name == aliases.get((group, option), option)


@pytest.mark.parametrize("group", [group for group in CONTRACT if group != "experiment"])
def test_default_is_the_first_option(group: str) -> None:
    assert getattr(compose_train(), group).name == CONTRACT[group].split()[0]


@pytest.mark.parametrize("launcher", ["basic", "joblib", "submitit_local", "submitit_slurm"])
def test_launcher_composes(launcher: str) -> None:
    compose_train(f"hydra/launcher={launcher}")


def test_no_comments_is_short_for_the_drills_with_a_variant() -> None:
    config = compose_train("data=no_comments")
    assert (config.data.name, config.data_variant.name) == ("drills", "no_comments")


def test_explicit_variant_wins_over_the_short_cut() -> None:
    config = compose_train("data=no_comments", "data_variant=standard")
    assert config.data_variant.name == "standard"


def test_qlora_is_lora_over_nf4() -> None:
    config = compose_train("peft=qlora")
    assert config.precision.name == "nf4"
    assert config.peft.config == compose_train("peft=lora").peft.config


def test_explicit_precision_wins_over_qlora() -> None:
    assert compose_train("peft=qlora", "precision=int8").precision.name == "int8"


def test_reverse_template_turns_the_rows_around() -> None:
    assert compose_train("template=reverse_instruction").data_variant.name == "reverse"


def test_defects_bring_their_template() -> None:
    assert compose_train("data=defects").template.name == "defect_judgement"
    assert compose_train("data=defects", "template=chatml").template.name == "chatml"


def _targets(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["_target_"]] if "_target_" in value else []
        return own + [target for item in value.values() for target in _targets(item)]
    return []


def test_every_target_exists() -> None:
    targets = set()
    for group, option in OPTIONS:
        if group in ("peft", "optimizer", "logger"):
            config: TrainConfig = compose_train(f"{group}={option}")
            targets |= set(_targets(config.peft.config))
            targets |= set(_targets(config.optimizer.config))
            targets |= set(_targets(config.logger.loggers))
    assert len(targets) >= 10
    for target in targets:
        module, _, name = target.rpartition(".")
        assert callable(getattr(importlib.import_module(module), name)), target


def test_library_options_need_no_plus_sign() -> None:
    config = compose_train("peft.config.lora_dropout=0.1", "data.fields.output=answer")
    assert config.peft.config is not None
    assert config.peft.config["lora_dropout"] == 0.1
    assert config.data.fields == {"output": "answer"}


def test_hub_names_are_pinned_to_commits() -> None:
    for group, option in OPTIONS:
        if group == "model" and option not in ("tiny", "local"):
            revision = compose_train(f"model={option}").model.revision
        elif group == "data" and option in ("code_alpaca", "dolly", "humaneval", "mbpp"):
            revision = compose_train(f"data={option}").data.revision
        else:
            continue
        assert revision is not None
        assert len(revision) == 40, option
