"""Tests of pass and fail, of seeds alone, and corrections for many comparisons."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_effectsize

from ift_lightning.reporting.statistics.bootstrap import FloatArray


@dataclass(frozen=True, slots=True)
class PassTable:
    """Pass and fail of two arms on the same problems, one answer each.

    Args:
        both: Problems that both pass.
        only_first: Problems that the first alone passes.
        only_second: Problems that the second alone passes.
        neither: Problems that none passes.
    """

    both: int
    only_first: int
    only_second: int
    neither: int

    def p_value(self) -> float:
        """Return McNemar's exact p-value: binomial over the problems where the arms disagree.

        McNemar 1947, https://doi.org/10.1007/BF02295996; as computed by statsmodels.
        """
        if not self.only_first + self.only_second:
            return 1.0
        table = [[self.both, self.only_first], [self.only_second, self.neither]]
        return float(min(mcnemar(table, exact=True).pvalue, 1.0))

    def odds_ratio(self) -> float:
        """Return the matched odds ratio, with half a problem added on either side."""
        return (self.only_first + 0.5) / (self.only_second + 0.5)


def pass_table(first: FloatArray, second: FloatArray) -> PassTable:
    """Count agreements of two arrays [n] of zeros and ones."""
    a, b = first.astype(bool), second.astype(bool)
    return PassTable(
        int(np.sum(a & b)), int(np.sum(a & ~b)), int(np.sum(~a & b)), int(np.sum(~a & ~b))
    )


def holm(p_values: Sequence[float], alpha: float = 0.05) -> list[float]:
    """Return p-values adjusted for the number of comparisons (Holm 1979), in the same order."""
    if not p_values:
        return []
    return [float(p) for p in multipletests(p_values, alpha=alpha, method="holm")[1]]


def cohens_h(first: float, second: float) -> float:
    """Return the effect size of two shares: the difference of 2 arcsin(sqrt(share)).

    Cohen 1988, "Statistical Power Analysis", chapter 6; as computed by statsmodels.
    """
    return float(proportion_effectsize(first, second))


def cohens_dz(first: FloatArray, second: FloatArray) -> float | None:
    """Return the mean of paired differences in units of their standard deviation.

    Args:
        first: float64 [n], by problem.
        second: Likewise.

    Returns:
        None where the differences do not vary.
    """
    differences = first - second
    spread = float(differences.std(ddof=1)) if differences.size > 1 else 0.0
    return float(differences.mean()) / spread if spread > 0 else None


@dataclass(frozen=True, slots=True)
class SeedTest:
    """Two arms compared by one number per seed (a loss); see :func:`welch`."""

    estimate: float
    low: float
    high: float
    p_value: float
    standard_error: float
    degrees_of_freedom: float


def welch(first: FloatArray, second: FloatArray, confidence: float = 0.95) -> SeedTest | None:
    """Compare means over seeds; it speaks about these test rows and any seeds.

    Welch's t-test (Welch 1947, https://doi.org/10.1093/biomet/34.1-2.28); as computed by scipy.

    Args:
        first: float64 [S], a number per seed.
        second: Likewise, of another number of seeds perhaps.
        confidence: Of the interval.

    Returns:
        None where an arm has one seed, or no seed makes any difference in either.
    """
    if min(first.size, second.size) < 2 or (np.ptp(first) == 0 and np.ptp(second) == 0):
        return None
    with warnings.catch_warnings():
        # scipy warns where an arm's seeds are nearly alike, which is no fault of theirs.
        warnings.simplefilter("ignore", RuntimeWarning)
        result = stats.ttest_ind(first, second, equal_var=False)
    interval = result.confidence_interval(confidence)
    error = np.sqrt(first.var(ddof=1) / first.size + second.var(ddof=1) / second.size)
    return SeedTest(
        float(first.mean() - second.mean()),
        float(interval.low),
        float(interval.high),
        float(result.pvalue),
        float(error),
        float(result.df),
    )
