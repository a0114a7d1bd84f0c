"""Tokenizers and templates for the tests of ``ift_lightning.templating``."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from conftest import CORPUS, train_tokenizer
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast

from ift_lightning.assembly import build_template
from ift_lightning.config.entry import config_dir, register_resolvers, register_schema
from ift_lightning.config.schema import TrainConfig
from ift_lightning.templating.template import Template
from ift_lightning.types import InstructionRecord, Message

TEMPLATE_NAMES = sorted(path.stem for path in (config_dir() / "template").glob("*.yaml"))

BYTE_LEVEL = "byte-level"
SENTENCEPIECE = ("metaspace-always", "metaspace-first", "legacy-llama")

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@cache
def composed(*overrides: str) -> DictConfig:
    """Return the training config, composed as the command line composes it; do not change it."""
    register_resolvers()
    register_schema("train", TrainConfig)
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        return compose("train", list(overrides))


@cache
def template_of(name: str, *overrides: str) -> Template:
    """Return a template of ``conf/template``, by way of Hydra."""
    config: Any = OmegaConf.to_object(composed(f"template={name}", *overrides).template)
    return build_template(config)


@cache
def byte_level(chat_template: str | None = CHATML) -> Any:
    """Return a byte-level BPE tokenizer that knows ChatML's tokens as special ones."""
    tokenizer = train_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.chat_template = chat_template
    return tokenizer


@cache
def sentencepiece_like(kind: str, *, adds_bos: bool = True, chat_template: str = CHATML) -> Any:
    """Return a BPE tokenizer with byte fallback that writes blanks as "▁", also before a text.

    Args:
        kind: Which of the ways to put a blank before a text; a name of ``SENTENCEPIECE``.
        adds_bos: Whether its post-processor begins with BOS.
        chat_template: Jinja.
    """
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["<unk>", "<s>", "</s>"]
    trainer = trainers.BpeTrainer(vocab_size=320, special_tokens=special, show_progress=False)
    learner.train_from_iterator(CORPUS, trainer)
    learned = json.loads(learner.to_str())["model"]
    vocabulary = dict(learned["vocab"])
    for byte in range(256):
        vocabulary.setdefault(f"<0x{byte:02X}>", len(vocabulary))
    merges = [tuple(merge) for merge in learned["merges"]]
    backend = Tokenizer(
        models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True)
    )
    if kind == "legacy-llama":
        backend.normalizer = normalizers.Sequence(
            [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
        )
    else:
        scheme: Any = kind.removeprefix("metaspace-")
        backend.pre_tokenizer = pre_tokenizers.Metaspace(
            prepend_scheme=scheme, split=scheme == "always"
        )
    backend.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    if adds_bos:
        backend.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", vocabulary["<s>"])]
        )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )
    tokenizer.chat_template = chat_template
    return tokenizer


def make_tokenizer(kind: str) -> Any:
    return byte_level() if kind == BYTE_LEVEL else sentencepiece_like(kind)


def triple(
    instruction: str = "Add two numbers.", input: str = "1 and 2", output: str = "return 3"
) -> InstructionRecord:
    return InstructionRecord(
        id="row", instruction=instruction, input=input, output=output, reasoning={"simple": "sum"}
    )


def chat(*contents: str, system: str = "") -> InstructionRecord:
    """Return a chat: a question, its answer, the next question, ..."""
    turns = [
        Message("assistant" if index % 2 else "user", content)
        for index, content in enumerate(contents)
    ]
    head = [Message("system", system)] if system else []
    return InstructionRecord(
        id="chat", messages=(*head, *turns), reasoning={"simple": "step by step"}
    )


def decoded(tokenizer: Any, ids: list[int]) -> str:
    text: str = tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    return text
