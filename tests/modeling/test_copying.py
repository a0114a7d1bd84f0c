"""The copying start continues a repeated sequence before any training."""

from __future__ import annotations

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from ift_lightning.modeling.copying import initialize_copying


def model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=512, hidden_size=192, intermediate_size=64, num_hidden_layers=2,
            num_attention_heads=3, num_key_value_heads=3, attention_bias=True,
            max_position_embeddings=256, tie_word_embeddings=True,
            rope_parameters={"rope_type": "default", "rope_theta": 100_000.0},
        )
    ).eval()  # fmt: skip


@torch.no_grad()
def copied_share(net: LlamaForCausalLM) -> float:
    """Return how often a repeated sequence's next token is the likeliest but for the current one.

    Embeddings are tied, so that an untrained network repeats the token that it reads.
    """
    half = torch.stack([torch.randperm(512)[:60] for _ in range(8)])
    ids = torch.cat([half, half], dim=1)
    logits = net(input_ids=ids).logits[:, 60:-1]
    current = ids[:, 60:-1, None]
    predicted = logits.scatter(2, current, float("-inf")).argmax(-1)
    return float((predicted == ids[:, 61:]).float().mean())


def test_a_repeated_sequence_is_continued() -> None:
    net = model()
    before = copied_share(net)
    initialize_copying(net)
    assert before < 0.02
    assert copied_share(net) > 0.3


def test_same_seed_same_weights() -> None:
    first, second = model(), model()
    initialize_copying(first)
    initialize_copying(second)
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(one, other)
