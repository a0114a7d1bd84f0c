"""What is missing from a model folder is said at once, and in one sentence."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import FAMILIES, train_tokenizer
from tiny_training import random_examples, to_batch

from ift_lightning.errors import UserError
from ift_lightning.modeling.adapters import attach_adapter
from ift_lightning.modeling.loading import (
    check_model_folder,
    is_local,
    load_base_model,
    load_config,
    load_tokenizer,
    tokenizer_fingerprint,
    weights_fingerprint,
)

ModelFolder = Callable[[str], Path]
NF4 = {
    "load_in_4bit": True,
    "bnb_4bit_quant_type": "nf4",
    "bnb_4bit_use_double_quant": True,
}


def copy_without(source: Path, target: Path, *patterns: str) -> Path:
    shutil.copytree(source, target)
    for pattern in patterns:
        for file in target.glob(pattern):
            file.unlink()
    return target


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        (["*.safetensors"], r"no weights in it \(looked for .*\); it holds .*config.json"),
        (["config.json"], r"no config.json in it, so it is no Hugging Face model folder"),
        (["tokenizer*", "special*", "vocab*"], r"no tokenizer in .*model.tokenizer"),
        (["*"], r"no config.json in it.*holds nothing"),
    ],
)
def test_incomplete_folder(
    missing: list[str], message: str, model_folder: ModelFolder, tmp_path: Path
) -> None:
    folder = copy_without(model_folder("llama"), tmp_path / "model", *missing)
    with pytest.raises(UserError, match=message) as caught:
        check_model_folder(str(folder))
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_whole_folder_is_accepted(model_folder: ModelFolder, tmp_path: Path) -> None:
    check_model_folder(str(model_folder("llama")))
    bare = copy_without(model_folder("llama"), tmp_path / "bare", "tokenizer*")
    check_model_folder(str(bare), str(model_folder("llama")))
    check_model_folder("org/name")


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there is no such folder. Give the folder of a Hugging"):
        check_model_folder(str(tmp_path / "nowhere"))


def test_missing_tokenizer_folder(model_folder: ModelFolder, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no tokenizer in .*nowhere"):
        check_model_folder(str(model_folder("llama")), str(tmp_path / "nowhere"))


@pytest.mark.parametrize(
    ("path", "local"),
    [
        ("org/name", False),
        ("/data/model", True),
        ("./org/name", True),
        ("~/model", True),
        ("model", True),
        ("a/b/c", True),
    ],
)
def test_is_local(path: str, local: bool) -> None:
    assert is_local(path) == local


def test_hub_without_a_network_fails_at_once() -> None:
    started = time.perf_counter()
    for load in (load_tokenizer, load_base_model, load_config):
        with pytest.raises(UserError, match=r"'org/no-such-model'.*model.path=FOLDER") as caught:
            load("org/no-such-model")
        assert "\n" not in str(caught.value)
    assert time.perf_counter() - started < 5


def test_unknown_architecture(model_folder: ModelFolder, tmp_path: Path) -> None:
    folder = copy_without(model_folder("llama"), tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "no_such_type"}))
    with pytest.raises(UserError, match=r"cannot load the model .*no_such_type"):
        load_base_model(str(folder))


def test_model_that_is_no_causal_language_model(tmp_path: Path) -> None:
    from transformers import ViTConfig, ViTModel

    config = ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    ViTModel(config).save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"cannot load the model"):
        load_base_model(str(tmp_path))


@pytest.mark.parametrize("content", [b"", b"not safetensors at all"])
def test_broken_weights(content: bytes, model_folder: ModelFolder, tmp_path: Path) -> None:
    folder = copy_without(model_folder("llama"), tmp_path / "model")
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(UserError, match=r"cannot load the model .*Look into the folder"):
        load_base_model(str(folder))


def test_weights_of_another_shape(model_folder: ModelFolder, tmp_path: Path) -> None:
    folder = copy_without(model_folder("llama"), tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"intermediate_size": 48}))
    with pytest.raises(UserError, match=r"6 of its tensors have another shape.*mlp.down_proj"):
        load_base_model(str(folder))


def test_tensors_that_are_not_in_the_file(model_folder: ModelFolder, tmp_path: Path) -> None:
    """transformers would fill them with random numbers and go on."""
    from safetensors.torch import load_file, save_file

    folder = copy_without(model_folder("llama"), tmp_path / "model")
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=r"1 of its tensors are missing .*1.mlp.up_proj.weight"):
        load_base_model(str(folder))


@pytest.mark.parametrize("family", FAMILIES)
def test_tied_embeddings_are_not_missed(family: str, tmp_path: Path) -> None:
    from conftest import make_model

    model = make_model(family, 300, tie_word_embeddings=True)
    model.save_pretrained(tmp_path)
    again = load_base_model(str(tmp_path))
    ids = torch.arange(3, 20)[None]
    with torch.no_grad():
        assert torch.equal(model.eval()(ids).logits, again.eval()(ids).logits)


def test_tokenizer_without_padding_token(tmp_path: Path) -> None:
    tokenizer = train_tokenizer()
    tokenizer.pad_token = None
    tokenizer.save_pretrained(tmp_path)
    loaded = load_tokenizer(str(tmp_path))
    assert loaded.pad_token_id == loaded.eos_token_id == 1


def test_tokenizer_with_neither_padding_nor_end(tmp_path: Path) -> None:
    tokenizer = train_tokenizer()
    tokenizer.pad_token = tokenizer.eos_token = None
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"neither a padding nor an EOS token.*tokenizer_config"):
        load_tokenizer(str(tmp_path))


def test_embeddings_grow_for_added_tokens_only(model_folder: ModelFolder) -> None:
    folder = str(model_folder("llama"))
    plain = load_tokenizer(folder)
    tokenizer = load_tokenizer(folder, add_tokens=["<|new|>"])
    assert len(tokenizer) == len(plain) + 1
    small = load_base_model(folder, vocabulary_size=10)
    assert small.get_input_embeddings().num_embeddings == len(plain)
    grown = load_base_model(folder, vocabulary_size=len(tokenizer))
    assert grown.get_input_embeddings().num_embeddings == len(tokenizer)
    assert grown.get_output_embeddings().out_features == len(tokenizer)
    old = slice(0, len(plain))
    assert torch.equal(
        grown.get_input_embeddings().weight[old], small.get_input_embeddings().weight
    )
    assert tokenizer_fingerprint(plain) != tokenizer_fingerprint(tokenizer)
    assert tokenizer_fingerprint(plain) == tokenizer_fingerprint(load_tokenizer(folder))


def test_weights_fingerprint(model_folder: ModelFolder, tmp_path: Path) -> None:
    folder = copy_without(model_folder("llama"), tmp_path / "model")
    cache = tmp_path / "cache"
    first = weights_fingerprint(str(folder), None, cache)
    assert first == weights_fingerprint(str(folder), None, cache)
    assert first == weights_fingerprint(str(model_folder("llama")), None, tmp_path / "other")
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "model.safetensors").write_bytes(data)
    assert first != weights_fingerprint(str(folder), None, cache)
    assert weights_fingerprint("org/name", "abc", cache) == "hub:org/name@abc"


def test_evaluation_leaves_4bit_weights_alone(tmp_path: Path, tokenizer: Any) -> None:
    """On some CPUs, bitsandbytes repacks them in place unless it is told not to."""
    import transformers

    config = transformers.LlamaConfig(
        vocab_size=300,
        hidden_size=128,
        intermediate_size=128,
        num_hidden_layers=1,
        num_attention_heads=4,
    )
    transformers.LlamaForCausalLM(config).save_pretrained(tmp_path)
    settings = {"_target_": "peft.LoraConfig", "target_modules": "all-linear"}
    model = attach_adapter(load_base_model(str(tmp_path), quantization=NF4), settings)
    from bitsandbytes.nn import Linear4bit

    layers = [module for module in model.modules() if isinstance(module, Linear4bit)]
    assert len(layers) == 7
    assert not any(layer.support_avx512bf16_for_cpu for layer in layers)
    ids = to_batch(random_examples(2)).input_ids
    before = model.train()(ids).logits.detach()
    packed = [layer.weight.data.clone() for layer in layers]
    with torch.no_grad():
        evaluated = model.eval()(ids).logits
    assert all(torch.equal(w, layer.weight) for w, layer in zip(packed, layers, strict=True))
    assert torch.equal(model.train()(ids).logits.detach(), before)
    torch.testing.assert_close(evaluated, before, rtol=1e-4, atol=1e-5)
