"""One function per metric; each states its unit, its direction and its source.

Importing this package loads none of the libraries that the metrics are computed with.
"""

from __future__ import annotations

from ift_lightning.metrics.codebleu import CODEBLEU_LANGUAGES, codebleu, codebleu_language
from ift_lightning.metrics.judgement import judgement_accuracy, parse_judgement
from ift_lightning.metrics.losses import LossSum, perplexity
from ift_lightning.metrics.outcomes import pass_at_k, share, wilson_interval
from ift_lightning.metrics.registry import METRICS, Metric, MetricResult, get_metric, metric
from ift_lightning.metrics.text import bleu, chrf, exact_match, rouge

__all__ = [
    "CODEBLEU_LANGUAGES",
    "METRICS",
    "LossSum",
    "Metric",
    "MetricResult",
    "bleu",
    "chrf",
    "codebleu",
    "codebleu_language",
    "exact_match",
    "get_metric",
    "judgement_accuracy",
    "metric",
    "parse_judgement",
    "pass_at_k",
    "perplexity",
    "rouge",
    "share",
    "wilson_interval",
]
