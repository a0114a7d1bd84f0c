"""Which differences a comparison could have shown, and what smaller ones would need."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats
from statsmodels.stats.power import TTestPower

ALPHA = 0.05
POWER = 0.8
_MOST = 8
"""Times as many problems, or seeds, as are asked for alone; more of both are cheaper then."""


@dataclass(frozen=True, slots=True)
class Power:
    """What a comparison can show.

    Args:
        detectable: Smallest true difference that it finds in 80 % of all repetitions.
        smaller: Half of that: a difference that it would mostly miss.
        num_problems_needed: Problems with which ``smaller`` would be found in 80 %; None where
            no number of problems is enough, since the seeds differ too much, and more seeds do it.
        num_seeds_needed: Seeds an arm that would be needed; None where more problems do it. Where
            both are given, neither alone is enough.
    """

    detectable: float
    smaller: float
    num_problems_needed: int | None
    num_seeds_needed: int | None = None


def detectable_difference(
    standard_error: float, degrees_of_freedom: float, *, alpha: float = ALPHA
) -> float:
    """Return the smallest true difference found in 80 % of repetitions.

    It is (t + z) standard errors (Miller 2024, "Adding Error Bars to Evals",
    https://arxiv.org/abs/2411.00640, section 5).

    Args:
        standard_error: Of the difference.
        degrees_of_freedom: Of the standard error.
        alpha: Level of the test.
    """
    t = stats.t.ppf(1 - alpha / 2, degrees_of_freedom) + stats.norm.ppf(POWER)
    return float(t * standard_error)


def problems_needed(difference: float, deviation: float, *, alpha: float = ALPHA) -> int:
    """Return how many problems find a difference in 80 % of repetitions.

    Args:
        difference: True difference, above 0.
        deviation: Standard deviation of the paired differences over problems, above 0.
        alpha: Level of the test.
    """
    # statsmodels' solver starts anywhere and fails for tiny effects, where the normal is exact.
    effect = difference / deviation
    factor = float(stats.norm.ppf(1 - alpha / 2) + stats.norm.ppf(POWER))
    if effect < 0.05:
        return math.ceil((factor / effect) ** 2)
    num = TTestPower().solve_power(effect_size=effect, alpha=alpha, power=POWER)
    return math.ceil(float(np.squeeze(num)))


def power_of(
    num_problems: int,
    problems_error: float,
    seeds_variance: float,
    degrees_of_freedom: float,
    num_seeds: int,
    *,
    num_compared: int = 1,
) -> Power | None:
    """Return what a comparison can show, and what half of that would need.

    Args:
        num_problems: ``n``.
        problems_error: Standard error that the problems cause.
        seeds_variance: What the seeds add to its square.
        degrees_of_freedom: Of both together.
        num_seeds: Seeds of the arm that has fewer.
        num_compared: Pairs that are tested together. The level is 5 % divided by their number, as
            in the first step of Holm's method, so that what it calls detectable is what the
            adjusted p-values would find whatever the other pairs show.

    Returns:
        None where no outcome varies, so that nothing can be said.
    """
    total = math.sqrt(problems_error**2 + seeds_variance)
    if total == 0:
        return None
    alpha = ALPHA / num_compared
    detectable = detectable_difference(total, degrees_of_freedom, alpha=alpha)
    smaller = detectable / 2
    deviation = problems_error * math.sqrt(num_problems)
    if seeds_variance == 0:
        return Power(detectable, smaller, problems_needed(smaller, deviation, alpha=alpha))
    # A quarter of the variance is needed; more problems, or more seeds, can only shrink their part.
    target = total**2 / 4
    if target > seeds_variance:
        num = math.ceil(deviation**2 / (target - seeds_variance) - 1e-9)
        if num <= _MOST * num_problems:
            return Power(detectable, smaller, num)
    elif target > problems_error**2:
        seeds = math.ceil(num_seeds * seeds_variance / (target - problems_error**2) - 1e-9)
        if seeds <= _MOST * num_seeds:
            return Power(detectable, smaller, None, seeds)
    # Four times as many of both always do it, and are less than far more of one.
    return Power(detectable, smaller, 4 * num_problems, 4 * num_seeds)
