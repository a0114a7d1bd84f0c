"""One function per metric; each states its unit, its direction and its source.

Importing this package loads none of the libraries that the metrics are computed with.
"""

from __future__ import annotations

from ift_lightning.metrics.codebleu import CODEBLEU_LANGUAGES, codebleu, codebleu_language
from ift_lightning.metrics.judgement import judgement_accuracy
from ift_lightning.metrics.judgement_text import parse_judgement
from ift_lightning.metrics.losses import LossSum, perplexity, token_losses
from ift_lightning.metrics.outcomes import (
    execution_success,
    extraction_failures,
    pass_at_k,
    pass_at_ks,
    share,
    wilson_interval,
)
from ift_lightning.metrics.registry import (
    METRICS,
    SCORES,
    Metric,
    MetricResult,
    ScoreDefinition,
    describe_score,
    get_metric,
    metric,
)
from ift_lightning.metrics.text import bleu, chrf, exact_match, rouge

__all__ = [
    "CODEBLEU_LANGUAGES",
    "METRICS",
    "SCORES",
    "LossSum",
    "Metric",
    "MetricResult",
    "ScoreDefinition",
    "bleu",
    "chrf",
    "codebleu",
    "codebleu_language",
    "describe_score",
    "exact_match",
    "execution_success",
    "extraction_failures",
    "get_metric",
    "judgement_accuracy",
    "metric",
    "parse_judgement",
    "pass_at_k",
    "pass_at_ks",
    "perplexity",
    "rouge",
    "share",
    "token_losses",
    "wilson_interval",
]
