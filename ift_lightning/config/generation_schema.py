"""Dataclasses of ``conf/generation``."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from omegaconf import MISSING


class GenerationEngine(Enum):
    """What generates."""

    transformers = "transformers"
    vllm = "vllm"  # an optional extra; needs a GPU


@dataclass
class GenerationConfig:
    """How answers are generated. A sample depends on the seed, its row and its number alone."""

    name: str = MISSING
    do_sample: bool = False  # draw tokens; false takes the most likely one
    num_samples: int = 1  # answers to each prompt
    temperature: float = 1.0
    top_p: float = 1.0  # share of probability that is drawn from
    seed: int = 0
    max_new_tokens: int | None = None  # None: data.max_new_tokens and cot_level.max_new_tokens
    stop: list[str] = field(default_factory=list)  # strings that end an answer, beside template's
    batch_size: int = 64  # answers generated together
    engine: GenerationEngine = GenerationEngine.transformers
    engine_options: dict[str, Any] = field(default_factory=dict)  # keywords of vllm.LLM
    keep_completions: bool = True  # in data.cache_dir, so that none is made twice
