"""Metrics of programs that were run: pass@k, shares and their intervals."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from ift_lightning.metrics.registry import MetricResult, defines_score


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


@defines_score(
    "pass@k",
    unit="share of problems, 0 to 1",
    higher_is_better=True,
    source="https://arxiv.org/abs/2107.03374",
)
def pass_at_ks(outcomes: Sequence[Sequence[bool]], ks: Sequence[int]) -> MetricResult:
    """pass@k of problems, and its mean over them; see :func:`pass_at_k`.

    Args:
        outcomes: Of each problem, whether each of its samples passed.
        ks: Values of k.

    Raises:
        ValueError: A problem has fewer samples than a k, or there is no problem.
    """
    per_item: dict[str, list[float | None]] = {}
    corpus = {}
    for k in ks:
        values = [pass_at_k(len(passed), sum(passed), k) for passed in outcomes]
        if not values:
            raise ValueError("pass@k needs one problem at least")
        per_item[f"pass@{k}"] = list(values)
        corpus[f"pass@{k}"] = sum(values) / len(values)
    return MetricResult(corpus, per_item)


@defines_score("execution_success", unit="share of programs, 0 to 1", higher_is_better=True)
def execution_success(ran: Sequence[bool]) -> MetricResult:
    """Share of programs that ran through without an error, right or wrong.

    Args:
        ran: Of each program, whether no exception, crash or limit ended it.
    """
    return _share_of("execution_success", ran)


@defines_score("extraction_failures", unit="share of answers, 0 to 1", higher_is_better=False)
def extraction_failures(failed: Sequence[bool]) -> MetricResult:
    """Share of answers that no code could be taken out of.

    Args:
        failed: Of each answer, whether its extraction failed.
    """
    return _share_of("extraction_failures", failed)


def _share_of(name: str, flags: Sequence[bool]) -> MetricResult:
    return MetricResult({name: share(flags)}, {name: [float(flag) for flag in flags]})


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
