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

_DF_FACTOR = 2
"""Degrees of freedom are at most this times those of the seeds. A few seeds often look alike by
chance, and the formula then takes their variance for known. The factor is the largest whole number
with which at most 5 % of the findings are false in experiments/statistics_calibration, where arms
vary alike from seed to seed."""


def seed_variance(scores: FloatArray) -> FloatArray:
    """Return the variance of an arm's mean as its seeds show it: var(means of seeds) / S.

    It holds what a seed does to all problems and, divided by their number, what it does to single
    ones. It is 0 for one seed, of which no variance is known.

    Args:
        scores: float64 [..., S, n], by seed and problem.
    """
    num_seeds = scores.shape[-2]
    if num_seeds < 2:
        return np.zeros(scores.shape[:-2])
    return np.asarray(scores.mean(axis=-1).var(axis=-1, ddof=1) / num_seeds)


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
        seeds_variance: What the seeds add to the variance; 0 with one seed an arm.
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
    is_trained: tuple[bool, bool] = (True, True),
) -> Difference:
    """Return the difference between two arms on the same problems.

    A problem's scores are averaged over its answers and its seeds, and problems are drawn as whole
    units (paired bootstrap over problems; Koehn 2004, https://aclanthology.org/W04-3250). That
    alone would speak about these trained models only. Where an arm has several seeds, problems and
    seeds are two crossed samples, as cases and readers are in studies of diagnosis, and their
    variances are added: V = V_problems + V_seeds, with Satterthwaite's degrees of freedom. What
    seed and problem do together is in both parts, so that V is rather too large than too small
    (Cameron, Gelbach and Miller 2011 subtract it, https://doi.org/10.1198/jbes.2010.07136, and can
    end below zero). The interval is then Student's, with the bootstrap's standard error in it.
    Seeds of two arms are taken as independent of each other. An arm with one seed has a variance
    that nobody knows: that of the other arm's seeds is taken for it. A model that was not trained
    has none.

    With one seed an arm it is the bootstrap's percentile interval.

    Args:
        first: float64 [..., S, n], by seed and problem, each entry a mean over answers.
        second: Likewise, with the same problems and any number of seeds.
        bootstrap: Of ``n`` problems.
        confidence: Of the interval.
        is_trained: Whether the arm of one seed could have had others.
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
    added, total, df = _with_seeds(problems_variance, first, second, is_trained)
    error = np.sqrt(total)
    t = stats.t.ppf((1 + confidence) / 2, df)
    has_seeds = added > 0
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
    problems_variance: FloatArray,
    first: FloatArray,
    second: FloatArray,
    is_trained: tuple[bool, bool],
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the seeds' added variance, the total, and its degrees of freedom (Satterthwaite)."""
    n = first.shape[-1]
    added = np.zeros(problems_variance.shape)
    squares = problems_variance**2 / (n - 1)
    seeds_df = 0
    arms = (first, second)
    for index, scores in enumerate(arms):
        df = scores.shape[-2] - 1
        if df:
            variance = seed_variance(scores)
            if arms[1 - index].shape[-2] == 1 and is_trained[1 - index]:
                variance = variance * (1 + scores.shape[-2])  # s² / S + s² / 1
            added = added + variance
            squares = squares + variance**2 / df
            seeds_df += df
    total = problems_variance + added
    most = min(_DF_FACTOR * seeds_df, n - 1) if seeds_df else n - 1
    with np.errstate(divide="ignore", invalid="ignore"):
        df_total = np.where((added > 0) & (squares > 0), total**2 / squares, most)
    return added, total, np.clip(df_total, 1.0, most)
