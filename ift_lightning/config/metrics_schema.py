"""The dataclass behind ``conf/metrics/``."""

from __future__ import annotations

from dataclasses import dataclass, field

from omegaconf import MISSING


@dataclass
class MetricsConfig:
    """What generated answers are scored by, besides being run where they can be."""

    name: str = MISSING
    texts: list[str] = field(default_factory=list)  # metrics of texts, by name
    ks: list[int] = field(default_factory=lambda: [1])  # of pass@k; each needs as many samples
    bleu_tokenizer: str = "13a"  # sacrebleu's; "zh" for Chinese answers
    judgements: bool = False  # score the judgement that an answer states, per subtype
