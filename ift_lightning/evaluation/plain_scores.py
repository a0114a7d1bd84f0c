"""The two scores that every evaluation has: pass@k, and whether an answer is the reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Scores:
    """What a metric of texts gives: over all answers, and for each one."""

    corpus: dict[str, float]
    per_item: dict[str, list[float]] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)


def pass_at_k(num_samples: int, num_correct: int, k: int) -> float:
    """Estimate the probability that one of ``k`` samples is right: 1 - C(n - c, k) / C(n, k).

    A share, higher is better. Source: https://arxiv.org/abs/2107.03374, equation 1.

    Raises:
        ValueError: ``k`` is below 1 or above the number of samples, or the counts are impossible.
    """
    if not 1 <= k <= num_samples or not 0 <= num_correct <= num_samples:
        raise ValueError(f"pass@{k} of {num_correct} right among {num_samples} samples")
    all_wrong = 1.0
    for i in range(num_samples - num_correct + 1, num_samples + 1):
        all_wrong *= 1 - k / i if i > k else 0.0
    return 1 - all_wrong


def exact_match(predictions: Sequence[str], references: Sequence[str]) -> Scores:
    """Return the share of answers that equal their reference but for white space at either end.

    A share, higher is better.
    """
    equal = [
        float(prediction.strip() == reference.strip())
        for prediction, reference in zip(predictions, references, strict=True)
    ]
    return Scores({"exact_match": sum(equal) / len(equal)}, {"exact_match": equal})
