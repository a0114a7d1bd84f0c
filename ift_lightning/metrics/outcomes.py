"""Metrics of programs that were run: pass@k, shares and their intervals."""

from __future__ import annotations

import math
from collections.abc import Iterable


def pass_at_k(num_samples: int, num_correct: int, k: int) -> float:
    """Return the unbiased estimate of pass@k for one problem, 0 to 1; higher is better.

    1 − Π (1 − k/i) for i from n − c + 1 to n: the chance that of k samples, drawn from the n
    without replacement, one at least is correct (Chen et al., 2021,
    https://arxiv.org/abs/2107.03374).

    Args:
        num_samples: n, samples of the problem.
        num_correct: c, those that pass.
        k: Samples drawn.

    Raises:
        ValueError: k is not between 1 and n, or c not between 0 and n.
    """
    if not 1 <= k <= num_samples:
        raise ValueError(
            f"pass@{k} needs {k} samples at least, and 1 <= k; there are {num_samples}"
        )
    if not 0 <= num_correct <= num_samples:
        raise ValueError(f"{num_correct} of {num_samples} samples cannot be correct")
    if num_samples - num_correct < k:
        return 1.0
    missed = (1 - k / i for i in range(num_samples - num_correct + 1, num_samples + 1))
    return 1.0 - math.prod(missed)


def share(flags: Iterable[bool]) -> float:
    """Return the share of true values, 0 to 1: execution success, extraction failures.

    Raises:
        ValueError: There are none.
    """
    values = [bool(flag) for flag in flags]
    if not values:
        raise ValueError("a share needs one item at least")
    return sum(values) / len(values)


def wilson_interval(
    num_successes: int, num_trials: int, confidence: float = 0.95
) -> tuple[float, float]:
    """Return Wilson's score interval of a share (Wilson, 1927, doi:10.2307/2276774).

    Args:
        num_successes: Items that succeeded.
        num_trials: All items, one at least.
        confidence: Coverage, between 0 and 1.
    """
    from scipy.stats import binomtest

    interval = binomtest(num_successes, num_trials).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)
