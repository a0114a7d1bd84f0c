"""Every PEFT method trains on every family, and comes back from disk as it was."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from composing import compose_train
from conftest import FAMILIES, make_model
from tiny_training import VOCABULARY_SIZE, random_examples, to_batch

from ift_lightning import assembly
from ift_lightning.config.checks import Machine, check_config, check_hardware
from ift_lightning.config.entry import config_dir
from ift_lightning.errors import UserError
from ift_lightning.modeling.adalora import AdaLoraController
from ift_lightning.modeling.adapters import (
    adalora_steps,
    attach_adapter,
    build_peft_config,
    count_parameters,
    load_adapter,
    peft_type,
    save_adapter,
    trainable_tensors,
)
from ift_lightning.modeling.loading import load_base_model
from ift_lightning.modeling.loss import SupervisedHead
from ift_lightning.modeling.optimization import parameter_groups
from ift_lightning.training.reload_check import reload_difference

METHODS = sorted(path.stem for path in (config_dir() / "peft").glob("*.yaml"))
QUANTIZED = ("int8", "nf4")
LORA = {"_target_": "peft.LoraConfig", "target_modules": "all-linear", "r": 4}
ModelFolder = Callable[[str], Path]


# Of random models of a few thousand parameters; the configs' own suit the bundled model.
LEARNING_RATES = {
    "lora": 2e-3, "qlora": 2e-3, "adalora": 2e-3, "dora": 2e-3, "ia3": 1e-2, "full": 5e-4,
    "prefix": 1e-2, "prompt": 3e-2, "ptuning": 5e-3,
}  # fmt: skip


def train_and_reload(
    folder: Path, tokenizer: Any, out: Path, *overrides: str, lr: float | None = None
) -> None:
    """Train 8 steps on 4 rows; assert that every tensor learns, and that the adapter is saved."""
    config = compose_train("model=local", f"model.path={folder}", *overrides)
    check_config(config)
    torch.manual_seed(0)
    model = assembly.build_model(config, tokenizer, 8)
    model.train()
    tensors = trainable_tensors(model)
    assert tensors
    before = {name: item.detach().clone() for name, item in tensors.items()}
    frozen = {name: item for name, item in model.named_parameters() if not item.requires_grad}
    frozen_before = {name: item.detach().clone() for name, item in frozen.items()}
    head = SupervisedHead(model)
    batch = to_batch(random_examples(4))
    adalora = AdaLoraController(model) if peft_type(model) == "ADALORA" else None
    rate = lr or LEARNING_RATES[config.peft.name]
    optimizer = torch.optim.AdamW(parameter_groups(model, 0.0), lr=rate)
    losses, reached = [], set()
    for step in range(8):
        optimizer.zero_grad()
        loss = head(batch).weighted_sum / batch.step_weight
        losses.append(loss.item())
        loss.backward()
        reached |= {n for n, item in tensors.items() if item.grad is not None and item.grad.any()}
        optimizer.step()
        if adalora is not None:
            adalora.after_optimizer_step(step + 1)
    assert reached == set(tensors), f"without a gradient: {sorted(set(tensors) - reached)}"
    assert all(item.grad is None for item in frozen.values())
    assert all(torch.equal(item, frozen_before[name]) for name, item in frozen.items())
    unchanged = [name for name, item in tensors.items() if torch.equal(item, before[name])]
    # AdaLoRA may leave a matrix no rank at all.
    assert all("lora_E" in name and adalora and adalora.is_emptied(name) for name in unchanged)
    assert all(torch.isfinite(torch.tensor(losses)))
    assert losses[-1] < losses[0] - 1e-4
    if adalora is not None:
        adalora.prepare_export()
    save_adapter(model, tokenizer, out, base_path=str(folder))
    difference = reload_difference(
        model,
        out,
        lambda: assembly.build_base_model(config, tokenizer),
        lambda saved: load_base_model(str(saved), dtype=assembly.weights_dtype(config)),
        batch,
    )
    assert difference <= 1e-5


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", METHODS)
def test_method_trains_and_reloads(
    method: str, family: str, model_folder: ModelFolder, tokenizer: Any, tmp_path: Path
) -> None:
    train_and_reload(model_folder(family), tokenizer, tmp_path, f"peft={method}")


@pytest.mark.slow
@pytest.mark.parametrize("precision", QUANTIZED)
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", [m for m in METHODS if m not in ("full", "qlora")])
def test_method_trains_over_quantized_weights(
    method: str,
    family: str,
    precision: str,
    model_folder: ModelFolder,
    tokenizer: Any,
    tmp_path: Path,
) -> None:
    overrides = (f"peft={method}", f"precision={precision}")
    if (method, precision) == ("dora", "int8"):
        with pytest.raises(UserError, match="DoRA loses the scales of int8"):
            train_and_reload(model_folder(family), tokenizer, tmp_path, *overrides)
        return
    train_and_reload(model_folder(family), tokenizer, tmp_path, *overrides)


@pytest.mark.parametrize("family", FAMILIES)
def test_lora_trains_over_int8_weights(
    family: str, model_folder: ModelFolder, tokenizer: Any, tmp_path: Path
) -> None:
    train_and_reload(model_folder(family), tokenizer, tmp_path, "peft=lora", "precision=int8")


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", [method for method in METHODS if method != "qlora"])
def test_method_trains_with_bf16_weights(
    method: str, family: str, model_folder: ModelFolder, tokenizer: Any, tmp_path: Path
) -> None:
    overrides = (f"peft={method}", "precision=bf16_true")
    # Rounding to bf16 swallows small steps: take large ones.
    train_and_reload(model_folder(family), tokenizer, tmp_path, *overrides, lr=0.05)


def test_dora_over_int8_on_a_cpu_is_refused_before_weights_are_loaded() -> None:
    config = compose_train("peft=dora", "precision=int8")
    with pytest.raises(UserError, match=r"peft=dora.*precision=int8.*precision=nf4"):
        check_hardware(config, Machine(has_gpu=False))
    check_hardware(config, Machine(has_gpu=True))
    check_hardware(compose_train("peft=dora", "precision=nf4"), Machine(has_gpu=False))


def test_schedule_too_short_is_refused_before_weights_are_loaded(
    tokenizer: Any, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text("{}")
    config = compose_train("model=local", f"model.path={tmp_path}", "peft=adalora")
    with pytest.raises(UserError, match="AdaLoRA: 1 optimizer steps"):
        assembly.build_model(config, tokenizer, 1)


@pytest.mark.parametrize("precision", QUANTIZED)
def test_full_tuning_of_quantized_weights_is_refused(
    precision: str, model_folder: ModelFolder, tokenizer: Any
) -> None:
    config = compose_train("peft=full", f"precision={precision}")
    with pytest.raises(UserError, match=r"quantized; use peft=qlora"):
        check_config(config)
    config = compose_train(
        "model=local", f"model.path={model_folder('llama')}", f"precision={precision}"
    )
    base = assembly.build_base_model(config, tokenizer)
    with pytest.raises(UserError, match=r"cannot train quantized weights; use peft=qlora"):
        attach_adapter(base, None)


@pytest.mark.parametrize("family", FAMILIES)
def test_prefix_tuning_with_checkpointing_is_refused(family: str) -> None:
    settings = {"_target_": "peft.PrefixTuningConfig", "num_virtual_tokens": 4}
    with pytest.raises(UserError, match=r"prefix tuning .* P-tuning or prompt tuning"):
        attach_adapter(make_model(family, VOCABULARY_SIZE), settings, gradient_checkpointing=True)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"_target_": "peft.LoraConfg"}, r"peft.LoraConfg: there is no such class"),
        ({"_target_": "LoraConfig"}, r"there is no such class"),
        ({}, r"there is no such class"),
        (LORA | {"alpha": 3}, r"peft.config.alpha: LoraConfig has no such option"),
        (LORA | {"rr": 3}, r"Did you mean 'r'\? Valid: "),
        ({"_target_": "peft.AdaLoraConfig"}, r"AdaLoraConfig refuses these values"),
    ],
)
def test_wrong_settings_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build_peft_config(settings)


def test_target_modules_that_do_not_exist_are_named() -> None:
    settings = LORA | {"target_modules": ["no_such_proj"]}
    with pytest.raises(UserError, match=r"LORA cannot be attached to a llama.*no_such_proj"):
        attach_adapter(make_model("llama", VOCABULARY_SIZE), settings)


@pytest.mark.parametrize(("init_r", "target_r"), [(8, 8), (4, 8)])
def test_adalora_without_ranks_to_take_away_is_refused(init_r: int, target_r: int) -> None:
    settings = {
        "_target_": "peft.AdaLoraConfig",
        "target_modules": "all-linear",
        "total_step": 10,
        "tfinal": 3,
        "init_r": init_r,
        "target_r": target_r,
    }
    with pytest.raises(UserError, match=rf"init_r={init_r}.*target_r={target_r}.*use peft=lora"):
        attach_adapter(make_model("llama", VOCABULARY_SIZE), settings)


@pytest.mark.parametrize(
    ("num_steps", "expected"),
    [
        (100, {"total_step": 100, "tinit": 10, "tfinal": 30, "deltaT": 3}),
        (1000, {"total_step": 1000, "tinit": 100, "tfinal": 300, "deltaT": 30}),
        (3, {"total_step": 3, "tinit": 0, "tfinal": 1, "deltaT": 1}),
    ],
)
def test_adalora_steps(num_steps: int, expected: dict[str, int]) -> None:
    steps = adalora_steps(num_steps, initial_fraction=0.1, final_fraction=0.3, num_allocations=20)
    assert steps == expected


@pytest.mark.parametrize(
    ("num_steps", "initial", "final"),
    [(0, 0.1, 0.3), (1, 0.1, 0.3), (2, 0.1, 0.3), (10, 0.5, 0.5), (10, 0.9, 0.3), (10, -0.1, 0.3)],
)
def test_adalora_steps_too_few(num_steps: int, initial: float, final: float) -> None:
    with pytest.raises(UserError, match=r"AdaLoRA: \d+ optimizer steps"):
        adalora_steps(num_steps, initial_fraction=initial, final_fraction=final, num_allocations=20)


def test_counts_of_parameters() -> None:
    model = make_model("llama", VOCABULARY_SIZE)
    total, trainable = count_parameters(model)
    assert total == trainable == sum(item.numel() for item in model.parameters())
    adapted = attach_adapter(model, LORA | {"target_modules": ["q_proj"], "r": 4})
    # Two layers, each with A [4, 32] and B [32, 4].
    assert count_parameters(adapted) == (total + 2 * 256, 2 * 256)


def test_saved_config_names_the_base_model(tmp_path: Path, tokenizer: Any) -> None:
    import json

    model = attach_adapter(make_model("llama", VOCABULARY_SIZE), LORA)
    save_adapter(model, tokenizer, tmp_path / "adapter", base_path="org/base")
    saved = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert saved["base_model_name_or_path"] == "org/base"
    with pytest.raises(UserError, match=r"holds no adapter"):
        load_adapter(make_model("llama", VOCABULARY_SIZE), tmp_path)


@pytest.mark.parametrize("method", ["lora", "full"])
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_added_tokens_are_learnt(
    method: str, family: str, model_folder: ModelFolder, tmp_path: Path
) -> None:
    """The embeddings of new tokens move, those of old ones don't (LoRA), and both are saved."""
    folder = model_folder(family)
    config = compose_train(
        "model=local",
        f"model.path={folder}",
        f"peft={method}",
        "model.add_tokens=['<|new_a|>','<|new_b|>']",
    )
    tokenizer = assembly.build_tokenizer(config)
    new_ids = tokenizer.convert_tokens_to_ids(["<|new_a|>", "<|new_b|>"])
    model = assembly.build_model(config, tokenizer, 4).train()
    model_size = model.get_input_embeddings().weight.shape[0]
    assert model_size == len(tokenizer) == max(new_ids) + 1
    example = random_examples(1)[0]
    example.input_ids[2:4] = new_ids
    batch = to_batch([example])
    embed = model.get_input_embeddings()
    ids = torch.arange(len(tokenizer))
    before = embed(ids).detach().clone()
    optimizer = torch.optim.AdamW(parameter_groups(model, 0.0), lr=1e-2)
    head = SupervisedHead(model)
    for _ in range(3):
        optimizer.zero_grad()
        (head(batch).weighted_sum / batch.step_weight).backward()
        optimizer.step()
    moved = (embed(ids) != before).any(dim=1).nonzero().flatten().tolist()
    assert set(new_ids) <= set(moved)
    if method == "lora":
        assert moved == sorted(new_ids)
    save_adapter(model, tokenizer, tmp_path, base_path=str(folder))
    difference = reload_difference(
        model,
        tmp_path,
        lambda: assembly.build_base_model(config, tokenizer),
        lambda saved: load_base_model(str(saved)),
        batch,
    )
    assert difference <= 1e-5


@pytest.mark.parametrize("method", ["adalora", "prefix", "ptuning", "prompt", "ia3"])
def test_added_tokens_are_refused_where_nothing_would_train_them(
    method: str, model_folder: ModelFolder
) -> None:
    config = compose_train(
        "model=local",
        f"model.path={model_folder('llama')}",
        f"peft={method}",
        "model.add_tokens=['<|new_a|>']",
    )
    tokenizer = assembly.build_tokenizer(config)
    with pytest.raises(UserError, match=r"model.add_tokens: .*use peft=lora or peft=full"):
        assembly.build_model(config, tokenizer, 20)


def test_dora_over_rows_of_zeros_stays_finite(model_folder: ModelFolder, tokenizer: Any) -> None:
    config = compose_train("peft=dora", "model=local", f"model.path={model_folder('llama')}")
    base = assembly.build_base_model(config, tokenizer)
    with torch.no_grad():
        base.model.layers[0].self_attn.q_proj.weight[:3] = 0
    ids = torch.arange(12).reshape(1, 12)
    expected = base(input_ids=ids).logits
    adapted = attach_adapter(base, assembly.peft_settings(config, 8))
    torch.testing.assert_close(adapted(input_ids=ids).logits, expected, atol=1e-4, rtol=0)
