"""The difference between two arms, with the uncertainty of problems and of seeds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from ift_lightning.reporting.statistics.bootstrap import (
    FloatArray,
    ProblemBootstrap,
    bootstrap_p_value,
    percentile_interval,
)


_MOST_DF_OF_TWO_SEEDS = 10.0
"""Two seeds often look alike by chance, and their variance is then missed. With this limit the
share of false findings stays under 5 % in the simulations of experiments/statistics_calibration;
without it, it reaches 7 %."""


@dataclass(frozen=True, slots=True)
class SeedVariance:
    """What seeds add to the variance of an arm's mean, from its scores by seed and problem.

    Args:
        of_mean: Variance of the arm's mean as its seeds show it: var(seed means) / S.
        of_interaction: The part of it that comes from seeds and problems together, which the
            variance over problems has already: residual mean square / (n S).
        degrees_of_freedom: S - 1; 0 for one seed, whose variance is not known.
    """

    of_mean: FloatArray
    of_interaction: FloatArray
    degrees_of_freedom: int


def seed_variance(scores: FloatArray) -> SeedVariance:
    """Return the seeds' part of the variance of a mean, from a two-way layout.

    Args:
        scores: float64 [..., S, n], by seed and problem.
    """
    num_seeds, num_problems = scores.shape[-2:]
    if num_seeds < 2:
        zero = np.zeros(scores.shape[:-2])
        return SeedVariance(zero, zero, 0)
    seed_means = scores.mean(axis=-1)
    grand = seed_means.mean(axis=-1)
    residual = (
        scores
        - seed_means[..., :, None]
        - scores.mean(axis=-2)[..., None, :]
        + grand[..., None, None]
    )
    square = np.sum(residual**2, axis=(-2, -1)) / ((num_seeds - 1) * (num_problems - 1))
    return SeedVariance(
        seed_means.var(axis=-1, ddof=1) / num_seeds,
        square / (num_problems * num_seeds),
        num_seeds - 1,
    )


@dataclass(frozen=True, slots=True)
class Difference:
    """First arm minus second arm, each field float64 [...] (batch axes of the scores).

    Args:
        estimate: Difference of means.
        low: Lower end of the interval.
        high: Upper end.
        p_value: Two-sided; of no difference.
        standard_error: Of the estimate, problems and seeds together.
        problems_error: Of the estimate, problems alone.
        seeds_variance: What the seeds add to the variance; 0 where they add nothing.
        degrees_of_freedom: Of ``standard_error``.
    """

    estimate: FloatArray
    low: FloatArray
    high: FloatArray
    p_value: FloatArray
    standard_error: FloatArray
    problems_error: FloatArray
    seeds_variance: FloatArray
    degrees_of_freedom: FloatArray


def paired_difference(
    first: FloatArray,
    second: FloatArray,
    bootstrap: ProblemBootstrap,
    *,
    confidence: float = 0.95,
) -> Difference:
    """Return the difference between two arms on the same problems.

    A problem's scores are averaged over its answers and its seeds, and problems are drawn as whole
    units (paired bootstrap over problems; Koehn 2004, https://aclanthology.org/W04-3250). That
    alone would speak about these trained models only. Where an arm has several seeds, the variance
    between them is added, as for readers in studies with several readers and cases: problems and
    seeds are crossed, and V = V_problems + max(0, V_seeds - V_interaction), with Satterthwaite's
    degrees of freedom (Obuchowski and Rockette 1995; Hillis 2007,
    https://doi.org/10.1002/sim.2532). Seeds of two arms are taken as independent of each other.

    Where the seeds add nothing the interval is the bootstrap's percentile interval; where they do,
    and always with two seeds, it is Student's with the bootstrap's standard error and the seeds'
    variance.

    Args:
        first: float64 [..., S, n], by seed and problem, each entry a mean over answers.
        second: Likewise, with the same problems and any number of seeds.
        bootstrap: Of ``n`` problems.
        confidence: Of the interval.
    """
    by_problem = first.mean(axis=-2) - second.mean(axis=-2)
    n = bootstrap.num_problems
    estimate = by_problem.mean(axis=-1)
    resampled = bootstrap.means(by_problem)
    low, high = percentile_interval(resampled, n, confidence)
    p_value = bootstrap_p_value(resampled, n)
    # An exact zero in every problem leaves rounding errors in the resampled means.
    is_constant = np.ptp(by_problem, axis=-1) == 0
    low, high = np.where(is_constant, estimate, low), np.where(is_constant, estimate, high)
    p_value = np.where(is_constant & (estimate == 0), 1.0, p_value)

    problems_variance = np.where(is_constant, 0.0, resampled.var(axis=-1) * n / (n - 1))
    added, total, df = _with_seeds(problems_variance, first, second)
    error = np.sqrt(total)
    t = stats.t.ppf((1 + confidence) / 2, df)
    has_two_seeds = 2 in (first.shape[-2], second.shape[-2])
    has_seeds = (added > 0) | (has_two_seeds & ~is_constant)
    with np.errstate(divide="ignore", invalid="ignore"):
        student_p = 2 * stats.t.sf(np.abs(estimate) / error, df)
    return Difference(
        estimate=estimate,
        low=np.where(has_seeds, np.minimum(low, estimate - t * error), low),
        high=np.where(has_seeds, np.maximum(high, estimate + t * error), high),
        p_value=np.where(has_seeds, np.maximum(student_p, p_value), p_value),
        standard_error=error,
        problems_error=np.sqrt(problems_variance),
        seeds_variance=added,
        degrees_of_freedom=df,
    )


def _with_seeds(
    problems_variance: FloatArray, first: FloatArray, second: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the seeds' added variance, the total, and its degrees of freedom."""
    n = first.shape[-1]
    parts = [seed_variance(first), seed_variance(second)]
    added = np.maximum(sum(part.of_mean - part.of_interaction for part in parts), 0.0)
    total = problems_variance + added
    squares = problems_variance**2 / (n - 1)
    for part in parts:
        if part.degrees_of_freedom:
            squares = squares + part.of_mean**2 / part.degrees_of_freedom
    with np.errstate(divide="ignore", invalid="ignore"):
        df = np.where((added > 0) & (squares > 0), total**2 / squares, n - 1)
    if any(part.degrees_of_freedom == 1 for part in parts):
        df = np.minimum(df, _MOST_DF_OF_TWO_SEEDS)
    return added, total, np.clip(df, 1.0, n - 1)
