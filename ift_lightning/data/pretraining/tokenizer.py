"""Trains the byte-level BPE tokenizer of the bundled base model."""

from __future__ import annotations

import itertools

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from ift_lightning.data.drills import generate_pretraining_texts
from ift_lightning.data.pretraining.library import library_texts

BOS, EOS, PAD = SPECIAL_TOKENS = ("<|bos|>", "<|eos|>", "<|pad|>")

# Letters with one space before them, single digits, runs of other signs, white space. Digits stay
# apart so that a number in prose and in code has the same tokens.
_PATTERN = r" ?\p{L}+| ?\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


def train_tokenizer(
    vocab_size: int, *, num_texts: int, seed: int, max_positions: int
) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer on pretraining texts and the standard library.

    Every text can be encoded: all 256 bytes are in the vocabulary.

    Args:
        vocab_size: Number of tokens, the three special ones among them.
        num_texts: Generated texts to count pairs in.
        seed: Of those texts.
        max_positions: Largest number of tokens that the model can read.

    Returns:
        A tokenizer that puts BOS first.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PATTERN), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    texts = itertools.chain(generate_pretraining_texts(num_texts, seed=seed), library_texts())
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A {BOS} $B", special_tokens=[(BOS, 0)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        clean_up_tokenization_spaces=False,
        model_max_length=max_positions,
    )
