"""Bootstrap over problems: all answers and all seeds of a problem are drawn together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

FloatArray = npt.NDArray[np.float64]

_CHUNK_ELEMENTS = 1 << 24
"""Elements of a chunk of resampling weights (128 MiB of float64)."""


@dataclass(frozen=True)
class ProblemBootstrap:
    """Draws problems with replacement, the same ones for everything it is asked about.

    Because each resample is a set of problems, means of two arms are taken over the same problems
    and their difference is paired.

    Args:
        num_problems: How many there are, ``n``.
        num_resamples: How often they are drawn, ``B``.
        seed: Of the draws.
    """

    num_problems: int
    num_resamples: int = 10_000
    seed: int = 0

    def _weights(self) -> Iterator[FloatArray]:
        """Yield float64 [b, n]: how often each problem was drawn, divided by ``n``."""
        n = self.num_problems
        rng = np.random.default_rng(self.seed)
        chunk = max(1, _CHUNK_ELEMENTS // n)
        for start in range(0, self.num_resamples, chunk):
            size = min(chunk, self.num_resamples - start)
            drawn = rng.integers(n, size=(size, n)) + n * np.arange(size)[:, None]
            yield np.bincount(drawn.ravel(), minlength=size * n).reshape(size, n) / n

    def means(self, values: FloatArray) -> FloatArray:
        """Return the mean over problems in every resample.

        Args:
            values: float64 [..., n].

        Returns:
            float64 [..., B].
        """
        return np.concatenate([values @ weights.T for weights in self._weights()], axis=-1)


def expanded_level(num_problems: int, confidence: float) -> float:
    """Return the lower percentile that gives an interval its confidence with few problems.

    The plain percentile interval is too narrow by sqrt((n - 1) / n) and takes the normal for
    Student's distribution; this percentile, Phi(-sqrt(n / (n - 1)) t), makes up for both.
    Hesterberg 2015, "What Teachers Should Know About the Bootstrap", section 4.3,
    https://doi.org/10.1080/00031305.2015.1089789.
    """
    n = num_problems
    t = stats.t.ppf((1 + confidence) / 2, n - 1)
    return float(stats.norm.cdf(-np.sqrt(n / (n - 1)) * t))


def percentile_interval(
    resampled: FloatArray, num_problems: int, confidence: float = 0.95
) -> tuple[FloatArray, FloatArray]:
    """Return both ends of the expanded percentile interval.

    Args:
        resampled: float64 [..., B], from :meth:`ProblemBootstrap.means`.
        num_problems: ``n``, at least 2.
        confidence: Share of intervals that cover the true value.

    Returns:
        float64 [...] twice.
    """
    level = expanded_level(num_problems, confidence)
    low, high = np.quantile(resampled, [level, 1 - level], axis=-1)
    return low, high


def bootstrap_p_value(resampled: FloatArray, num_problems: int) -> FloatArray:
    """Return the two-sided p-value that belongs to :func:`percentile_interval`.

    It is the error level at which an end of the interval touches zero.

    Args:
        resampled: float64 [..., B] differences.
        num_problems: ``n``.
    """
    count = resampled.shape[-1]
    below = (np.sum(resampled <= 0, axis=-1) + 1) / (count + 1)
    above = (np.sum(resampled >= 0, axis=-1) + 1) / (count + 1)
    tail = np.minimum(np.minimum(below, above), 0.5)
    n = num_problems
    t = stats.norm.ppf(tail) / np.sqrt(n / (n - 1))
    return np.minimum(2 * stats.t.cdf(t, n - 1), 1.0)
