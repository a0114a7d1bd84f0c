"""Which differences a comparison could have shown, and what smaller ones would need."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats
from statsmodels.stats.power import TTestPower

ALPHA = 0.05
POWER = 0.8
_MOST_PROBLEMS = 10_000_000


@dataclass(frozen=True, slots=True)
class Power:
    """What a comparison can show.

    Args:
        detectable: Smallest true difference that it finds in 80 % of all repetitions.
        smaller: Half of that: a difference that it would mostly miss.
        num_problems_needed: Problems with which ``smaller`` would be found in 80 %; None where
            no number of problems is enough, since the seeds differ too much.
        num_seeds_needed: Seeds an arm that would then be needed, with as many problems as now;
            None where problems do it.
    """

    detectable: float
    smaller: float
    num_problems_needed: int | None
    num_seeds_needed: int | None = None


def detectable_difference(standard_error: float, degrees_of_freedom: float) -> float:
    """Return the smallest true difference found in 80 % of repetitions, at the 5 % level.

    It is (t + z) standard errors (Miller 2024, "Adding Error Bars to Evals",
    https://arxiv.org/abs/2411.00640, section 5).
    """
    t = stats.t.ppf(1 - ALPHA / 2, degrees_of_freedom) + stats.norm.ppf(POWER)
    return float(t * standard_error)


def problems_needed(difference: float, deviation: float) -> int:
    """Return how many problems find a difference in 80 % of repetitions, at the 5 % level.

    Args:
        difference: True difference, above 0.
        deviation: Standard deviation of the paired differences over problems, above 0.
    """
    # statsmodels' solver starts anywhere and fails for tiny effects, where the normal is exact.
    effect = difference / deviation
    factor = float(stats.norm.ppf(1 - ALPHA / 2) + stats.norm.ppf(POWER))
    if effect < 0.05:
        return math.ceil((factor / effect) ** 2)
    num = TTestPower().solve_power(effect_size=effect, alpha=ALPHA, power=POWER)
    return math.ceil(float(np.squeeze(num)))


def power_of(
    num_problems: int,
    problems_error: float,
    seeds_variance: float,
    degrees_of_freedom: float,
    num_seeds: int,
) -> Power | None:
    """Return what a comparison can show, and what half of that would need.

    Args:
        num_problems: ``n``.
        problems_error: Standard error that the problems cause.
        seeds_variance: What the seeds add to its square.
        degrees_of_freedom: Of both together.
        num_seeds: Seeds of the arm that has fewer.

    Returns:
        None where no outcome varies, so that nothing can be said.
    """
    total = math.sqrt(problems_error**2 + seeds_variance)
    if total == 0:
        return None
    detectable = detectable_difference(total, degrees_of_freedom)
    smaller = detectable / 2
    deviation = problems_error * math.sqrt(num_problems)
    if seeds_variance == 0:
        return Power(detectable, smaller, problems_needed(smaller, deviation))
    # A quarter of the variance is needed; the problems can only shrink their own part.
    target = total**2 / 4
    room = target - seeds_variance
    if room > 0:
        num = math.ceil(deviation**2 / room)
        if num <= _MOST_PROBLEMS:
            return Power(detectable, smaller, num)
    room = target - problems_error**2
    seeds = math.ceil(num_seeds * seeds_variance / room) if room > 0 else 4 * num_seeds
    return Power(detectable, smaller, None, seeds)
