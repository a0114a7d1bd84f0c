"""Small random models of every supported family, and a tokenizer, made on the spot."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
# Small models gain nothing from threads, and threads that wait for each other lose a lot where
# another process is on the same cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

FAMILIES = ("llama", "qwen2", "qwen3", "starcoder2", "gpt2", "gpt_bigcode")

CORPUS = (
    "def add(a, b):\n    # add two numbers\n    return a + b\n",
    "### Instruction:\nWrite a function.\n\n### Response:\n",
    "for item in items:\n    if item > 0:\n        total += item\n",
    "指令：写一个函数\n输入：列表\n回答：判断:正确\n\n原因：没有缺陷\n",
    "Below is an instruction that describes a task. Write a response that completes the request.",
)


def shared_data_folder() -> Path | None:
    """Return the folder of real rows that may lie beside a checkout; tests must not need it."""
    given = os.environ.get("IFT_LIGHTNING_SHARED_DATA")
    folder = Path(given) if given else Path(__file__).resolve().parents[2] / "shared" / "data"
    return folder if folder.is_dir() else None


def train_tokenizer(vocabulary_size: int = 480) -> Any:
    """Return a byte-level BPE tokenizer that encodes any text, with distinct special tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        special_tokens=["<|bos|>", "<|eos|>", "<|pad|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(CORPUS, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<|bos|>",
        eos_token="<|eos|>",
        pad_token="<|pad|>",
    )


def make_config(family: str, vocabulary_size: int, **changes: Any) -> Any:
    """Return a configuration of a family with two small layers."""
    import transformers as tf

    common = {
        "vocab_size": vocabulary_size,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": 2,
    }
    modern = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
    }
    classic = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 512}
    if family == "llama":
        return tf.LlamaConfig(**{**common, **modern, **changes})
    if family == "qwen2":
        return tf.Qwen2Config(**common, **modern, **changes)
    if family == "qwen3":
        return tf.Qwen3Config(**common, **modern, head_dim=8, **changes)
    if family == "starcoder2":
        return tf.Starcoder2Config(**common, **modern, **changes)
    if family == "gpt2":
        return tf.GPT2Config(**common, **classic, **changes)
    if family == "gpt_bigcode":
        return tf.GPTBigCodeConfig(**common, **classic, **changes)
    raise AssertionError(family)


def make_model(family: str, vocabulary_size: int, seed: int = 0, **changes: Any) -> Any:
    """Return a random model of a family, without dropout unless asked for."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    config = make_config(family, vocabulary_size, **changes)
    for name in (
        "resid_pdrop",
        "embd_pdrop",
        "attn_pdrop",
        "residual_dropout",
        "attention_dropout",
        "embedding_dropout",
    ):
        if hasattr(config, name) and name not in changes:
            setattr(config, name, 0.0)
    return AutoModelForCausalLM.from_config(config)


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    return train_tokenizer()


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory, tokenizer: Any) -> Callable[[str], Path]:
    """Return a function that gives the folder of a saved random model of a family."""
    made: dict[str, Path] = {}

    def folder(family: str = "llama") -> Path:
        if family not in made:
            path = tmp_path_factory.mktemp(f"model-{family}")
            make_model(family, len(tokenizer)).save_pretrained(path)
            tokenizer.save_pretrained(path)
            made[family] = path
        return made[family]

    return folder
