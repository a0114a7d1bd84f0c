"""Makes a folder with a model of a known shape and random weights: ``make_model.py 1.5b FOLDER``.

For measurements of speed and memory where the real weights cannot be fetched. The tokenizer is
the bundled one, padded to the real vocabulary by the shape of the embeddings alone.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen2Config

import ift_lightning

SHAPES = {
    # Qwen/Qwen2.5-Coder-1.5B and -7B, from their config.json
    "1.5b": {
        "hidden_size": 1536,
        "intermediate_size": 8960,
        "num_hidden_layers": 28,
        "num_attention_heads": 12,
        "num_key_value_heads": 2,
        "tie_word_embeddings": True,
        "vocab_size": 151936,
    },
    "7b": {
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "tie_word_embeddings": False,
        "vocab_size": 152064,
    },
}


def main() -> None:
    name, folder = sys.argv[1], Path(sys.argv[2])
    bundled = Path(ift_lightning.__file__).parent / "assets" / "tiny"
    tokenizer = AutoTokenizer.from_pretrained(bundled)
    torch.manual_seed(0)
    config = Qwen2Config(
        **SHAPES[name],
        max_position_embeddings=32768,
        rope_theta=1_000_000.0,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        dtype="bfloat16",
    )
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    main()
