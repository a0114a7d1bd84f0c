"""The dataclass behind ``conf/metrics/``."""

from __future__ import annotations

from dataclasses import dataclass, field

from omegaconf import MISSING


@dataclass
class MetricsConfig:
    """What generated answers are scored by, besides being run where they can be."""

    name: str = MISSING
    texts: list[str] = field(default_factory=list)  # metrics of texts, by name
    # Of pass@k; those above generation.num_samples are left out.
    ks: list[int] = field(default_factory=lambda: [1, 10])
    bleu_tokenizer: str = "13a"  # sacrebleu's; "zh" for Chinese answers
    default_language: str = ""  # of code rows that name none, for CodeBLEU; empty: they have none
    judgements: bool = False  # score the judgement that an answer states, per subtype
