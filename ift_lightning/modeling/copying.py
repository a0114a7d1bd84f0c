"""Starts a small Llama from a circuit that copies, which training on few tokens finds too late."""

from __future__ import annotations

import math

import torch
from transformers import LlamaForCausalLM

_NUM_MATCHED = 8  # rotary frequencies by which the first head knows its neighbour
_MATCH_SCALE = 6.0
_SLOW = 0.006  # radians a position, below which a frequency hardly sees distance


@torch.no_grad()
def initialize_copying(
    model: LlamaForCausalLM, *, embedding_std: float = 0.06, seed: int = 0
) -> None:
    """Write a previous-token head and an induction head into the first two layers.

    Head 0 of layer 0 attends to the previous position, by its query and key biases, and writes that
    token's embedding into a subspace of its own. Head 0 of layer 1 looks there for the current
    token and brings in the token that followed it (Olsson et al., 2022,
    https://arxiv.org/abs/2209.11895). Training goes on from there with all weights free.

    Args:
        model: At least two layers, with attention biases, and a hidden size of at least three
            times the head size.
        embedding_std: Standard deviation of the embeddings.
        seed: Of the embeddings and of the subspaces.
    """
    config = model.config
    width, head_dim = config.hidden_size, config.hidden_size // config.num_attention_heads
    theta = config.rope_parameters["rope_theta"]
    half = head_dim // 2
    generator = torch.Generator().manual_seed(seed)
    basis = torch.linalg.qr(torch.randn(width, width, generator=generator))[0]
    current, previous, copied = basis[: 3 * head_dim].split(head_dim)
    model.model.embed_tokens.weight.normal_(0, embedding_std, generator=generator)
    first, second = (model.model.layers[index].self_attn for index in (0, 1))
    for projection in (first.q_proj, first.k_proj, second.q_proj, second.k_proj):
        projection.weight[:head_dim] = 0
    # The fastest rotary frequencies tell neighbours apart; the slowest ones ignore distance.
    for index in range(_NUM_MATCHED):
        angle = theta ** (-index / half)
        first.k_proj.bias[index] = _MATCH_SCALE
        first.q_proj.bias[index] = _MATCH_SCALE * math.cos(angle)
        first.q_proj.bias[index + half] = -_MATCH_SCALE * math.sin(angle)
    first.v_proj.weight[:head_dim] = 0.5 * current
    first.o_proj.weight[:, :head_dim] = 0.2 * previous.T
    slow = [index for index in range(half) if theta ** (-index / half) < _SLOW]
    for row, index in enumerate([*slow, *(index + half for index in slow)]):
        second.q_proj.weight[index] = 1.4 * current[row]
        second.k_proj.weight[index] = 1.4 * previous[row]
    second.v_proj.weight[:head_dim] = 0.5 * copied
    second.o_proj.weight[:, :head_dim] = 0.2 * copied.T
