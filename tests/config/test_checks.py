"""Pairs that cannot work are refused with a reason and an alternative, before anything loads."""

from __future__ import annotations

import pytest
from composing import compose_train

from ift_lightning.config.checks import Machine, check_config, check_hardware
from ift_lightning.errors import UserError

CPU = Machine(has_gpu=False)
GPU = Machine(has_gpu=True, has_flash_attention=True)


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["peft=prefix", "trainer.gradient_checkpointing=true"], ["peft=prefix", "peft=ptuning"]),
        (["peft=full", "precision=nf4"], ["every weight", "peft=qlora"]),
        (["peft=full", "precision=int8"], ["every weight", "precision=bf16_true"]),
        (["template=reverse_instruction", "data_variant=standard"], ["template=alpaca"]),
        (["data_variant=reverse", "cot_level=simple"], ["cot_level=none"]),
        (["trainer.devices=2"], ["strategy=single", "strategy=ddp"]),
        (["trainer.max_steps=0"], ["trainer.max_steps=0"]),
        (["trainer.max_epochs=0"], ["trainer.max_epochs"]),
        (["trainer.micro_batch_size=0"], ["trainer.micro_batch_size"]),
        (["optimizer.lr=0"], ["optimizer.lr"]),
        (["data.max_seq_length=1"], ["data.max_seq_length"]),
        (["strategy=deepspeed", "strategy.stage=4"], ["strategy.stage=4", "1, 2 and 3"]),
        (["strategy=deepspeed", "strategy.offload_parameters=true"], ["strategy.stage=3"]),
        (["strategy=ddp", "trainer.devices=3"], ["cannot be divided evenly among 3"]),
        (["strategy=ddp", "trainer.devices=0"], ["trainer.devices=0", "at least 1"]),
        (["strategy=fsdp", "peft=qlora"], ["precision=nf4", "strategy=ddp"]),
        (["strategy=deepspeed", "peft=adalora"], ["peft=adalora", "strategy=ddp"]),
        (["strategy=fsdp", "precision=fp16_mixed"], ["precision=bf16_mixed"]),
        (["strategy=ddp", "strategy.timeout_minutes=0"], ["timeout_minutes"]),
        (["seed=-1"], ["seed=-1"]),
        (["trainer.accelerator=gqu"], ["Did you mean 'gpu'"]),
        (["data.num_train=0"], ["data.num_train=0"]),
        (["data.num_test=-1"], ["data.num_test=-1"]),
        (["data.require_levels=[simpel]"], ["Did you mean 'simple'"]),
        (["data.require_levels=[simple,simple]"], ["twice"]),
        (["data_variant=reverse", "data.require_levels=[simple]"], ["data.require_levels"]),
        (["budget=target_tokens"], ["budget.max_target_tokens=N", "data.require_levels"]),
        (["budget=target_tokens", "budget.max_target_tokens=0"], ["has to be above 0"]),
        (["budget.max_target_tokens=9"], ["budget=target_tokens"]),
        (["budget=params"], ["budget.max_trainable_parameters=N"]),
        (["budget=params", "budget.max_trainable_parameters=0"], ["has to be above 0"]),
        (["budget.max_trainable_parameters=5"], ["budget=params"]),
        (["budget=time"], ["budget.max_seconds=S"]),
        (["budget=time", "budget.max_seconds=0"], ["has to be above 0"]),
        (["budget.max_seconds=5"], ["budget=time"]),
        (
            ["budget=time", "budget.max_seconds=5", "trainer.max_steps=3"],
            ["trainer.max_steps=3"],
        ),
        (
            ["budget=time", "budget.max_seconds=5", "scheduler=linear"],
            ["scheduler=linear", "scheduler=constant"],
        ),
        (
            ["budget=time", "budget.max_seconds=5", "scheduler=constant_with_warmup"],
            ["scheduler.warmup_steps=N"],
        ),
        (
            ["budget=time", "budget.max_seconds=5", "peft=adalora"],
            ["peft=adalora", "number of steps", "peft=lora"],
        ),
        (
            ["budget=target_tokens", "budget.max_target_tokens=9", "trainer.max_steps=3"],
            ["trainer.max_steps=3"],
        ),
    ],
)
def test_impossible_pair_is_refused(overrides: list[str], expected: list[str]) -> None:
    with pytest.raises(UserError) as error:
        check_config(compose_train(*overrides))
    for text in expected:
        assert text in str(error.value)


@pytest.mark.parametrize(
    ("overrides", "machine", "expected"),
    [
        (["attention=flash_attention_2"], CPU, "attention=sdpa"),
        (["attention=flash_attention_2"], Machine(has_gpu=True), "flash-attn"),
        (["attention=flash_attention_2"], GPU, "precision=bf16_mixed"),
        (["precision=fp16_mixed"], CPU, "precision=bf16_mixed"),
        (["trainer.accelerator=gpu"], CPU, "trainer.accelerator=cpu"),
        (["precision=nf4"], Machine(has_gpu=False, has_bitsandbytes=False), "bf16_true"),
        (["logger=wandb"], Machine(has_gpu=False, has_wandb=False), r"\[wandb\]'; or use logger="),
        (["precision=bf16_mixed"], Machine(has_gpu=True, gpu_has_bf16=False), "fp16_mixed"),
    ],
)
def test_what_the_machine_cannot_do_is_refused(
    overrides: list[str], machine: Machine, expected: str
) -> None:
    with pytest.raises(UserError, match=expected):
        check_hardware(compose_train(*overrides), machine)


@pytest.mark.parametrize("precision", ["fp32", "bf16_mixed", "bf16_true", "int8", "nf4"])
def test_what_a_cpu_can_do_is_let_through(precision: str) -> None:
    config = compose_train(f"precision={precision}")
    check_config(config)
    check_hardware(config, CPU)


def test_flash_attention_is_let_through_where_it_works() -> None:
    config = compose_train("attention=flash_attention_2", "precision=bf16_mixed")
    check_config(config)
    check_hardware(config, GPU)


def test_qlora_with_an_explicit_plain_precision_is_called_lora() -> None:
    config = compose_train("peft=qlora", "precision=fp32")
    check_config(config)
    assert config.peft.name == "lora"


def test_a_budget_of_time_brings_a_schedule_without_an_end() -> None:
    clock = ("budget=time", "budget.max_seconds=2.5")
    config = compose_train(*clock)
    check_config(config)
    assert (config.budget.name, config.scheduler.type) == ("time", "constant")
    check_config(
        compose_train(*clock, "scheduler=constant_with_warmup", "scheduler.warmup_steps=5")
    )
    assert compose_train("budget=epochs").scheduler.type == "linear"
