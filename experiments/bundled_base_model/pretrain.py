"""Trains the small base model from nothing: tokenizer, packed blocks, Muon + AdamW, WSD schedule.

Usage: python experiments/bundled_base_model/pretrain.py FOLDER [--steps N]
With W processes (torchrun --nproc-per-node W), each takes 1/W of every batch.
"""

from __future__ import annotations

import argparse
import itertools
import math
import os
import random
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.distributed as dist
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from ift_lightning.data.drills import generate_pretraining_texts

# Letters with one space before them, single digits, runs of other signs, white space. Digits stay
# apart so that a parameter in prose and in code has the same tokens.
PATTERN = r" ?\p{L}+| ?\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LIBRARY_MODULES = (
    "textwrap", "bisect", "heapq", "statistics", "string", "shlex", "fnmatch", "glob", "copy",
    "colorsys", "calendar", "keyword", "linecache", "operator", "queue", "random", "reprlib",
    "sched", "stat", "tabnanny", "timeit", "token", "types", "weakref", "csv",
    "collections/__init__", "functools", "json/decoder", "json/encoder", "html/parser",
    "dataclasses", "difflib", "fractions", "contextlib", "abc", "argparse", "ast", "base64",
    "cmd", "code", "configparser", "datetime", "decimal", "enum", "getopt", "gettext",
    "graphlib", "hashlib", "inspect", "ipaddress", "numbers", "pprint", "pathlib", "shutil",
    "tempfile", "tokenize", "traceback", "typing", "uuid", "zipapp",
)  # fmt: skip


def library_texts() -> list[str]:
    root = Path(sysconfig.get_paths()["stdlib"])
    paths = (root / f"{name}.py" for name in LIBRARY_MODULES)
    return [path.read_text(encoding="utf-8") for path in paths if path.exists()]


def train_tokenizer(vocab_size: int) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PATTERN), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        special_tokens=["<|bos|>", "<|eos|>", "<|pad|>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    texts = itertools.chain(generate_pretraining_texts(30_000, seed=7), library_texts())
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|bos|> $A", pair="<|bos|> $A <|bos|> $B", special_tokens=[("<|bos|>", 0)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<|bos|>", eos_token="<|eos|>",
        pad_token="<|pad|>", clean_up_tokenization_spaces=False, model_max_length=1024,
    )  # fmt: skip


@torch.no_grad()
def initialize_copying(model: LlamaForCausalLM, embedding_std: float = 0.06) -> None:
    """Start from a circuit that copies: a previous-token head, then an induction head.

    Head 0 of layer 0 attends to the previous position, by its query and key biases, and writes that
    token's embedding into a subspace of its own. Head 0 of layer 1 looks there for the current
    token and brings in the token that followed it (Olsson et al., 2022, arXiv:2209.11895). Left to
    itself, training spends a large part of a small budget before it finds this.
    """
    config = model.config
    width, head_dim = config.hidden_size, config.hidden_size // config.num_attention_heads
    theta = config.rope_parameters["rope_theta"]
    generator = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(width, width, generator=generator))[0]
    current, previous, copied = basis[: 3 * head_dim].split(head_dim)
    model.model.embed_tokens.weight.normal_(0, embedding_std, generator=generator)
    first, second = (model.model.layers[i].self_attn for i in (0, 1))
    for projection in (first.q_proj, first.k_proj, second.q_proj, second.k_proj):
        projection.weight[:head_dim] = 0
    half, scale = head_dim // 2, 6.0
    # The fastest rotary frequencies tell neighbours apart, the slowest ones ignore distance.
    for i in range(8):
        angle = theta ** (-i / half)
        first.k_proj.bias[i] = scale
        first.q_proj.bias[i] = scale * math.cos(angle)
        first.q_proj.bias[i + half] = -scale * math.sin(angle)
    first.v_proj.weight[:head_dim] = 0.5 * current
    first.o_proj.weight[:, :head_dim] = 0.2 * previous.T
    slow = [i for i in range(half) if theta ** (-i / half) < 0.006]
    for row, i in enumerate([*slow, *(i + half for i in slow)]):
        second.q_proj.weight[i] = 1.4 * current[row]
        second.k_proj.weight[i] = 1.4 * previous[row]
    second.v_proj.weight[:head_dim] = 0.5 * copied
    second.o_proj.weight[:, :head_dim] = 0.2 * copied.T


def max_steps_at(progress: float, curriculum: float) -> int:
    """Number of steps of the functions: one, two, three, then up to five."""
    share = progress / curriculum
    return 1 if share < 0.25 else 2 if share < 0.6 else 3 if share < 1 else 5


class Blocks:
    """Rows of `length` tokens: whole texts, each from BOS to EOS, the last one cut off."""

    def __init__(self, tokenizer, length: int, seed: int, rank: int, library_share: float) -> None:
        self.length, self.library_share = length, library_share
        self.eos = tokenizer.eos_token_id
        self.rng = random.Random(seed * 1000 + rank)
        stream = (seed + 1) * 16 + rank
        self.drills = {k: self._encoded(tokenizer, k, stream) for k in (1, 2, 3, 5)}
        self.library = [i for t in library_texts() for i in [*tokenizer(t).input_ids, self.eos]]

    @staticmethod
    def _encoded(tokenizer, max_steps: int, stream: int) -> Iterator[list[int]]:
        for chunk in itertools.count():
            seed = stream * 100_000 + chunk
            texts = list(generate_pretraining_texts(2000, seed=seed, max_steps=max_steps))
            yield from tokenizer(texts).input_ids

    def draw(self, max_steps: int) -> list[int]:
        if self.rng.random() < self.library_share:
            start = self.rng.randrange(len(self.library) - self.length)
            return self.library[start : start + self.length]
        row: list[int] = []
        while len(row) < self.length:
            row += [*next(self.drills[max_steps]), self.eos]
        return row[: self.length]


def learning_rate_factor(progress: float, warmup: float, decay: float) -> float:
    """Warm-up, stable, linear decay; `progress` runs from 0 to 1."""
    if progress < warmup:
        return progress / warmup
    return 1.0 if progress < 1 - decay else max(0.02, (1 - progress) / decay)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("output")
    parser.add_argument("--steps", type=int, default=1212)
    parser.add_argument("--rows", type=int, default=16, help="rows of a batch, all processes")
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--curriculum", type=float, default=0.12)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if world > 1:
        dist.init_process_group("gloo")
    # One thread a process: two threads wait for each other wherever a core is shared.
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)

    tokenizer = train_tokenizer(2048)
    config = LlamaConfig(
        vocab_size=2048, hidden_size=192, intermediate_size=512, num_hidden_layers=4,
        num_attention_heads=3, num_key_value_heads=3, attention_bias=True,
        max_position_embeddings=1024,
        rope_parameters={"rope_type": "default", "rope_theta": 100_000.0},
        tie_word_embeddings=True, bos_token_id=0, eos_token_id=1, pad_token_id=2,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    initialize_copying(model)
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
    others = [p for n, p in model.named_parameters() if p.ndim != 2 or "embed" in n]
    optimizers = [
        torch.optim.Muon(matrices, lr=0.02, momentum=0.95, weight_decay=0.05),
        torch.optim.AdamW(others, lr=2e-3, betas=(0.9, 0.95), weight_decay=0.0, fused=True),
    ]
    peaks = [optimizer.param_groups[0]["lr"] for optimizer in optimizers]
    blocks = Blocks(tokenizer, args.length, args.seed, rank, library_share=0.04)
    start = time.time()
    for step in range(args.steps):
        progress = step / args.steps
        factor = learning_rate_factor(progress, warmup=0.03, decay=0.35)
        for optimizer, peak in zip(optimizers, peaks, strict=True):
            optimizer.param_groups[0]["lr"] = peak * factor
        max_steps = max_steps_at(progress, args.curriculum)
        rows = torch.tensor([blocks.draw(max_steps) for _ in range(args.rows // world)])
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(input_ids=rows, use_cache=False).logits[:, :-1]
        loss = torch.nn.functional.cross_entropy(
            logits.float().flatten(0, 1), rows[:, 1:].flatten()
        )
        loss.backward()
        if world > 1:
            for parameter in model.parameters():
                dist.all_reduce(parameter.grad)
                parameter.grad /= world
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        if rank == 0 and step % 50 == 0:
            print(f"{step} loss {loss.item():.4f} {time.time() - start:.0f} s", flush=True)
    if rank == 0:
        tokenizer.save_pretrained(args.output)
        model.to(torch.bfloat16).save_pretrained(args.output)


if __name__ == "__main__":
    main()
