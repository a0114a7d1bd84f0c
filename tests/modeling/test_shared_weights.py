"""Arms of a sweep use the same base weights, change nothing in them, and lose nothing by it."""

from __future__ import annotations

import gc
import json
import os
import shutil
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import make_model
from test_train import configured, record_of, run  # noqa: F401

from ift_lightning.modeling import shared_weights
from ift_lightning.modeling.adapters import attach_adapter, trainable_tensors
from ift_lightning.modeling.loading import load_base_model
from ift_lightning.modeling.shared_weights import (
    SharedBaseWeights,
    base_model,
    content_sum,
    forget_base_weights,
    sharing_base_weights,
)

LORA = {"_target_": "peft.LoraConfig", "r": 4, "target_modules": "all-linear"}


@pytest.fixture(autouse=True)
def nothing_kept() -> Iterator[None]:
    forget_base_weights()
    yield
    forget_base_weights()


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that grows by a name whenever a file of base weights is opened."""
    from transformers import modeling_utils

    opened: list[str] = []
    safe_open = modeling_utils.safe_open

    def opening(path: Any, *arguments: Any, **keywords: Any) -> Any:
        opened.append(Path(path).name)
        return safe_open(path, *arguments, **keywords)

    monkeypatch.setattr(modeling_utils, "safe_open", opening)
    return opened


def pointers(model: torch.nn.Module) -> dict[str, int]:
    return {name: item.data_ptr() for name, item in model.named_parameters()}


def train_a_little(model: Any) -> None:
    """Take two steps with the default optimizer, which no version counter sees."""
    optimizer = torch.optim.AdamW(trainable_tensors(model).values(), lr=0.1, fused=True)
    for _ in range(2):
        ids = torch.arange(3, 40)[None]
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def test_arms_share_tensors_and_nothing_else(model_folder: Callable[[str], Path]) -> None:
    shared = SharedBaseWeights()
    path = str(model_folder("llama"))
    plain = load_base_model(path)
    first = shared.model(path, trains_base=False)
    second = shared.model(path, trains_base=False)
    assert pointers(first) == pointers(second)
    assert not set(pointers(plain).values()) & set(pointers(first).values())
    for name, tensor in plain.state_dict().items():
        assert torch.equal(second.state_dict()[name], tensor), name
    assert (first.training, second.training) == (plain.training, plain.training)
    assert second.config is not first.config
    assert second.config.to_dict() == plain.config.to_dict()
    assert second.generation_config.to_dict() == plain.generation_config.to_dict()
    first.requires_grad_(False)
    assert all(item.requires_grad for item in second.parameters())
    buffers = dict(first.named_buffers())
    assert buffers
    assert all(item.data_ptr() != buffers[name].data_ptr() for name, item in second.named_buffers())
    ids = torch.arange(3, 30)[None]
    assert torch.equal(second(input_ids=ids).logits, plain(input_ids=ids).logits)


def test_tied_weights_stay_tied(tmp_path: Path) -> None:
    make_model("llama", 480, tie_word_embeddings=True).save_pretrained(tmp_path)
    shared = SharedBaseWeights()
    shared.model(str(tmp_path), trains_base=False)
    model = shared.model(str(tmp_path), trains_base=False)
    assert model.lm_head.weight is model.model.embed_tokens.weight


def test_a_trained_arm_leaves_the_weights_to_the_next_one(
    model_folder: Callable[[str], Path], reads: list[str]
) -> None:
    shared = SharedBaseWeights()
    path = str(model_folder("llama"))
    for seed in range(3):
        torch.manual_seed(seed)
        model = attach_adapter(shared.model(path, trains_base=False), LORA)
        train_a_little(model)
    assert reads == ["model.safetensors"]
    again = shared.model(path, trains_base=False)
    fresh = load_base_model(path)
    for name, tensor in fresh.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name


@pytest.mark.parametrize("method", ["lora", "prompt", "dora"])
def test_runs_are_the_same_to_the_last_bit(
    method: str,
    run: Callable[..., Path],  # noqa: F811
    reads: list[str],
) -> None:
    def arm(folder: str, *more: str) -> Path:
        return run(f"peft={method}", "optimizer.lr=1e-2", *more, folder=folder)

    expected = [arm(f"alone{seed}", f"seed={seed}") for seed in (0, 1)]
    assert reads.count("model.safetensors") == 4  # for training, and for the check after saving
    reads.clear()
    found = []
    for seed in (0, 1):
        with sharing_base_weights():
            found.append(arm(f"shared{seed}", f"seed={seed}"))
    assert reads.count("model.safetensors") == 1
    for one, other in zip(expected, found, strict=True):
        assert record_of(one)["metrics"] == record_of(other)["metrics"]
        saved = [folder / "adapter" / "adapter_model.safetensors" for folder in (one, other)]
        assert saved[0].read_bytes() == saved[1].read_bytes()
        audits = [record_of(folder)["audit"]["trainability"] for folder in (one, other)]
        assert audits[0] == audits[1]


def test_new_tokens_are_each_models_own(
    model_folder: Callable[[str], Path], reads: list[str]
) -> None:
    """Their embeddings are drawn at random: from the same state, the same ones come."""
    shared, path = SharedBaseWeights(), str(model_folder("llama"))
    shared.model(path, trains_base=False)
    states = []
    for load in (
        lambda: load_base_model(path, vocabulary_size=600),
        lambda: shared.model(path, trains_base=False, vocabulary_size=600),
    ):
        torch.manual_seed(7)
        states.append((load().state_dict(), torch.get_rng_state()))
    (expected, state), (found, other_state) = states
    assert torch.equal(state, other_state)
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert shared.model(path, trains_base=False).get_input_embeddings().num_embeddings < 600
    assert len(reads) == 2


def test_full_tuning_gets_the_weights_to_itself(
    model_folder: Callable[[str], Path], reads: list[str]
) -> None:
    shared, path = SharedBaseWeights(), str(model_folder("llama"))
    first = shared.model(path, trains_base=False)
    full = attach_adapter(shared.model(path, trains_base=True), None)
    assert pointers(full) == pointers(first)  # handed over, and read once in all
    train_a_little(full)
    after = shared.model(path, trains_base=False)
    assert len(reads) == 2
    fresh = load_base_model(path)
    assert all(torch.equal(item, after.state_dict()[n]) for n, item in fresh.state_dict().items())
    assert not set(pointers(after).values()) & set(pointers(full).values())
    # Where it comes first, nothing is kept of it.
    alone = SharedBaseWeights()
    trained = alone.model(path, trains_base=True)
    assert not set(pointers(alone.model(path, trains_base=False)).values()) & set(
        pointers(trained).values()
    )


def test_dora_fills_rows_of_zeros_in_a_copy(tmp_path: Path) -> None:
    base = make_model("llama", 480)
    with torch.no_grad():
        base.model.layers[0].mlp.up_proj.weight[3] = 0
    base.save_pretrained(tmp_path)
    shared = SharedBaseWeights()
    first = shared.model(str(tmp_path), trains_base=False)
    attach_adapter(first, {**LORA, "use_dora": True})
    filled = first.model.layers[0].mlp.up_proj.base_layer.weight
    assert bool((filled[3] == 1e-6).all())
    second = shared.model(str(tmp_path), trains_base=False)
    assert bool((second.model.layers[0].mlp.up_proj.weight[3] == 0).all())
    # Only the matrix that had such a row has storage of its own.
    common = set(pointers(first).values()) & set(pointers(second).values())
    assert len(common) == len(pointers(second)) - 1


@pytest.mark.parametrize("hidden", [False, True])
def test_changed_weights_are_seen_and_read_again(
    model_folder: Callable[[str], Path], reads: list[str], hidden: bool
) -> None:
    shared, path = SharedBaseWeights(), str(model_folder("llama"))
    weight = shared.model(path, trains_base=False).model.layers[1].self_attn.q_proj.weight
    version = weight._version
    if hidden:
        weight.data[2, 5] += 1e-6  # no version counter sees this
        assert weight._version == version
    else:
        with torch.no_grad():
            weight[2, 5] += 1e-6
    with pytest.warns(UserWarning, match="have been changed"):
        again = shared.model(path, trains_base=False)
    assert len(reads) == 2
    fresh = load_base_model(path)
    assert all(torch.equal(item, again.state_dict()[n]) for n, item in fresh.state_dict().items())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.uint8])
@pytest.mark.parametrize("shape", [(), (3,), (5, 7), (16, 8)])
def test_content_sum_changes_with_any_number(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    tensor = torch.arange(int(torch.tensor(shape).prod())).reshape(shape).to(dtype)
    before = content_sum(tensor)
    for index in range(tensor.numel()):
        changed = tensor.clone()
        changed.view(-1)[index] += 1
        assert content_sum(changed) != before
    assert content_sum(tensor.clone()) == before
    assert content_sum(tensor.T.contiguous().T if len(shape) == 2 else tensor) == before


def test_another_model_is_loaded_once_the_last_one_is_gone(
    model_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = SharedBaseWeights()
    alive: list[bool] = []
    watched: list[Any] = []

    def loading(path: str, **options: Any) -> Any:
        gc.collect()
        alive.append(any(item() is not None for item in watched))
        model = load_base_model(path, **options)
        watched[:] = [weakref.ref(item.untyped_storage()) for item in model.parameters()]
        return model

    monkeypatch.setattr(shared_weights, "load_base_model", loading)
    path = str(model_folder("llama"))
    for options in (
        {"dtype": torch.float32},
        {"dtype": torch.bfloat16},
        {"dtype": torch.bfloat16, "attention": "eager"},
        {"quantization": {"load_in_4bit": True}},
        {"dtype": torch.bfloat16},
    ):
        shared.model(path, trains_base=False, **options)
    assert alive == [False] * 5


def test_quantized_models_are_not_shared(model_folder: Callable[[str], Path]) -> None:
    shared, path = SharedBaseWeights(), str(model_folder("llama"))
    options = {"trains_base": False, "quantization": {"load_in_4bit": True}}
    models = [shared.model(path, **options) for _ in range(2)]
    assert not set(pointers(models[0]).values()) & set(pointers(models[1]).values())
    assert shared._kept is None


def test_a_changed_file_is_read_again(model_folder: Callable[[str], Path], tmp_path: Path) -> None:
    path = tmp_path / "model"
    shutil.copytree(model_folder("llama"), path)
    shared = SharedBaseWeights()
    first = shared.model(str(path), trains_base=False)
    make_model("llama", first.config.vocab_size, seed=9).save_pretrained(path)
    os.utime(path / "model.safetensors", ns=(1, 1))  # whatever the clock's resolution
    second = shared.model(str(path), trains_base=False)
    name = "model.layers.0.mlp.up_proj.weight"
    assert not torch.equal(first.state_dict()[name], second.state_dict()[name])


def test_a_failing_run_leaves_nothing_in_memory(
    run: Callable[..., Path],  # noqa: F811
    model_folder: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    with pytest.raises(ValueError, match="diverged"), sharing_base_weights():
        run("optimizer.lr=1e30", "trainer.gradient_clip_norm=null", "scheduler=constant")
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "failed"
    assert shared_weights._shared._kept is None


def test_only_inside_the_block(model_folder: Callable[[str], Path], reads: list[str]) -> None:
    path = str(model_folder("llama"))
    with sharing_base_weights():
        base_model(path, trains_base=False)
    assert shared_weights._shared._kept is not None  # for the next block
    outside = base_model(path, trains_base=False)
    with sharing_base_weights():
        inside = base_model(path, trains_base=False)
    assert len(reads) == 2
    assert not set(pointers(outside).values()) & set(pointers(inside).values())
    forget_base_weights()
    assert shared_weights._shared._kept is None
