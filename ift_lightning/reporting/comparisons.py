"""Arms and pairs of arms in numbers: means, intervals, tests, effect sizes, what was detectable."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ift_lightning.metrics.outcomes import wilson_interval
from ift_lightning.reporting.scores import FloatArray, ScoreInfo, ScoreMatrix
from ift_lightning.reporting.statistics.bootstrap import ProblemBootstrap, percentile_interval
from ift_lightning.reporting.statistics.differences import paired_difference
from ift_lightning.reporting.statistics.power import Power, power_of
from ift_lightning.reporting.statistics.significance import (
    PassTable,
    cohens_dz,
    cohens_h,
    holm,
    pass_table,
    welch,
)


@dataclass(frozen=True, slots=True)
class ArmScore:
    """One score of one arm, in shown units.

    Args:
        arm: Its name.
        mean: Over seeds, problems and answers.
        by_seed: Mean of each seed.
        spread: Standard deviation over seeds; None with one seed.
        low: Lower end of the interval over problems; None where single answers have no such score.
        high: Upper end.
        interval: How the interval was made: "bootstrap over problems", "Wilson", or "".
        low_all: Lower end of the interval over problems and seeds; None with one seed.
        high_all: Upper end.
    """

    arm: str
    mean: float
    by_seed: tuple[float, ...]
    spread: float | None
    low: float | None = None
    high: float | None = None
    interval: str = ""
    low_all: float | None = None
    high_all: float | None = None


@dataclass(frozen=True, slots=True)
class PairComparison:
    """First arm minus second arm, in shown units.

    Args:
        first: Name of an arm.
        second: Name of the other.
        difference: Of the means; above 0 where the first has more.
        low: Lower end of the 95 % interval; None where nothing can be said.
        high: Upper end.
        p_value: Of no difference, for this pair alone.
        p_holm: The same, for all pairs of the table together.
        method: What the p-value comes from.
        covers: What the interval speaks about: "problems", "problems and seeds" or "seeds".
        low_problems: Lower end of the interval over problems alone (these trained models only).
        high_problems: Upper end.
        dz: Mean difference in standard deviations of the problems' differences.
        h: Cohen's h, where each outcome is pass or fail.
        passes: Agreement on pass and fail, where every problem has one answer of one seed.
        passes_by_seed: Seed to the agreement of the two models of that seed.
        power: What was detectable.
        num_problems: Problems compared.
        num_seeds: Seeds of either arm.
        num_compared: Pairs that ``p_holm`` is adjusted for.
    """

    first: str
    second: str
    difference: float
    low: float | None
    high: float | None
    p_value: float | None
    p_holm: float | None
    method: str
    covers: str
    low_problems: float | None = None
    high_problems: float | None = None
    dz: float | None = None
    h: float | None = None
    passes: PassTable | None = None
    passes_by_seed: Mapping[int, PassTable] | None = None
    power: Power | None = None
    num_problems: int = 0
    num_seeds: tuple[int, int] = (1, 1)
    num_compared: int = 1

    @property
    def is_detected(self) -> bool:
        """Whether the difference stands at the 5 % level among all pairs of the table."""
        return self.p_holm is not None and self.p_holm < 0.05


@dataclass(frozen=True, slots=True)
class ScoreTable:
    """All arms and pairs for one score.

    Args:
        info: The score.
        num_problems: Problems that all arms were scored on; 0 where it is one number per run.
        num_left_out: Problems that some arms lack.
        arms: In the order of the runs.
        pairs: Every two arms, or every arm against the baseline.
    """

    info: ScoreInfo
    num_problems: int
    num_left_out: int
    arms: tuple[ArmScore, ...]
    pairs: tuple[PairComparison, ...]

    @property
    def best(self) -> ArmScore:
        """The arm with the best mean."""
        choose = max if self.info.higher_is_better else min
        return choose(self.arms, key=lambda arm: arm.mean)

    def arm(self, name: str) -> ArmScore:
        return next(item for item in self.arms if item.arm == name)


def compare_by_problem(
    matrix: ScoreMatrix,
    seeds: Mapping[str, Sequence[int]],
    *,
    num_resamples: int = 10_000,
    baseline: str | None = None,
    num_compared: int | None = None,
) -> ScoreTable:
    """Compare arms on the problems that all of them answered.

    Args:
        matrix: Scores by arm, seed and problem.
        seeds: Arm to its seeds, in the order of the matrix; a base model has an empty list, since
            it was not trained and has no other seeds.
        num_resamples: Of the bootstrap.
        baseline: Compare every arm with this one; None for all pairs.
        num_compared: Pairs that are tested together, for what is detectable; None for those of
            this table.
    """
    num = len(matrix.problems)
    bootstrap = ProblemBootstrap(num, num_resamples) if num > 1 else None
    arms = tuple(
        _arm_score(name, values, matrix, bootstrap) for name, values in matrix.values.items()
    )
    names = _pairs(list(matrix.values), baseline)
    family = num_compared or max(len(names), 1)
    pairs = [_pair(matrix, a, b, seeds, bootstrap, family) for a, b in names]
    return ScoreTable(matrix.info, num, matrix.num_left_out, arms, adjusted(pairs))


def compare_by_seed(
    info: ScoreInfo,
    values: Mapping[str, Sequence[float]],
    *,
    baseline: str | None = None,
    why_not: str = "",
) -> ScoreTable:
    """Compare arms by a score that exists once per run, such as a loss.

    Args:
        info: The score.
        values: Arm to the score of each seed, as recorded.
        baseline: Compare every arm with this one; None for all pairs.
        why_not: Why the values of two arms do not compare; pairs then have no test.
    """
    shown = {name: info.factor * np.asarray(array, float) for name, array in values.items()}
    arms = tuple(
        ArmScore(name, float(array.mean()), tuple(map(float, array)), _spread(array))
        for name, array in shown.items()
    )
    pairs = []
    for first, second in _pairs(list(shown), baseline):
        a, b = shown[first], shown[second]
        test = None if why_not else welch(a, b)
        alone = why_not or "one seed says nothing of others"
        pairs.append(
            PairComparison(
                first,
                second,
                float(a.mean() - b.mean()),
                test.low if test else None,
                test.high if test else None,
                test.p_value if test else None,
                None,
                "Welch's t-test over seeds" if test else f"none: {alone}",
                "seeds",
                num_seeds=(a.size, b.size),
            )
        )
    return ScoreTable(info, 0, 0, arms, adjusted(pairs))


def _pairs(names: list[str], baseline: str | None) -> list[tuple[str, str]]:
    if baseline is None:
        return list(itertools.combinations(names, 2))
    return [(name, baseline) for name in names if name != baseline]


def _spread(by_seed: FloatArray) -> float | None:
    return float(by_seed.std(ddof=1)) if by_seed.size > 1 else None


def _arm_score(
    name: str, values: FloatArray, matrix: ScoreMatrix, bootstrap: ProblemBootstrap | None
) -> ArmScore:
    factor = matrix.info.factor
    by_seed = factor * values.mean(axis=1)
    by_problem = values.mean(axis=0)
    num = by_problem.size
    is_share = matrix.info.unit == "%"
    is_constant = np.ptp(by_problem) == 0
    low: float | None = None
    high: float | None = None
    how = ""
    if is_share and ((matrix.is_binary and len(values) == 1) or is_constant):
        # Where every problem comes out alike, a bootstrap would give an interval without width.
        ends = wilson_interval(round(float(by_problem.sum())), num)
        low, high, how = factor * ends[0], factor * ends[1], "Wilson"
    elif bootstrap is not None and not is_constant:
        low_end, high_end = percentile_interval(bootstrap.means(by_problem), num)
        low, high = factor * float(low_end), factor * float(high_end)
        how = "bootstrap over problems"
    low_all: float | None = None
    high_all: float | None = None
    if bootstrap is not None and len(values) > 1:
        nothing = np.zeros((1, num))
        found = paired_difference(values, nothing, bootstrap, is_trained=(True, False))
        # Problems' own interval is the least; a share has its ends.
        low_all = min(factor * float(found.low), np.inf if low is None else low)
        high_all = max(factor * float(found.high), -np.inf if high is None else high)
        if is_share:
            low_all, high_all = max(low_all, 0.0), min(high_all, factor)
    return ArmScore(
        name, float(by_seed.mean()), tuple(map(float, by_seed)), _spread(by_seed), low, high, how,
        low_all, high_all,
    )  # fmt: skip


def _pair(
    matrix: ScoreMatrix,
    first: str,
    second: str,
    seeds: Mapping[str, Sequence[int]],
    bootstrap: ProblemBootstrap | None,
    num_compared: int,
) -> PairComparison:
    a, b = matrix.values[first], matrix.values[second]
    factor = matrix.info.factor
    counts = (len(a), len(b))
    if bootstrap is None:
        return PairComparison(
            first, second, factor * float(a.mean() - b.mean()), None, None, None, None,
            "none: one problem", "problems", num_problems=1, num_seeds=counts,
        )  # fmt: skip
    is_trained = (bool(seeds[first]), bool(seeds[second]))
    found = paired_difference(a, b, bootstrap, is_trained=is_trained)
    is_single = matrix.is_binary and counts == (1, 1)
    most = matrix.info.largest_difference
    table = pass_table(a[0], b[0]) if is_single else None
    has_seeds = max(counts) > 1
    alone = paired_difference(a.mean(axis=0)[None], b.mean(axis=0)[None], bootstrap)
    method = "problems and seeds" if has_seeds else "paired bootstrap over problems"
    for name, count, trained in zip((first, second), counts, is_trained, strict=True):
        if has_seeds and count == 1 and trained:
            method += f", with one seed of {name} taken to vary like the other arm's"
    return PairComparison(
        first=first,
        second=second,
        difference=factor * float(found.estimate),
        # Two shares differ by 100 % at most.
        low=max(factor * float(found.low), -most),
        high=min(factor * float(found.high), most),
        p_value=table.p_value() if table else float(found.p_value),
        p_holm=None,
        method="McNemar's exact test" if table else method,
        covers="problems and seeds" if has_seeds else "problems",
        low_problems=factor * float(alone.low),
        high_problems=factor * float(alone.high),
        dz=cohens_dz(a.mean(axis=0), b.mean(axis=0)),
        h=cohens_h(float(a.mean()), float(b.mean())) if matrix.info.unit == "%" else None,
        passes=table,
        passes_by_seed=_by_seed(matrix, first, second, seeds) if has_seeds else None,
        power=power_of(
            len(matrix.problems),
            factor * float(found.problems_error),
            factor**2 * float(found.seeds_variance),
            float(found.degrees_of_freedom),
            min(c for c in counts if c > 1) if has_seeds else 1,
            num_compared=num_compared,
        ),
        num_problems=len(matrix.problems),
        num_seeds=counts,
    )  # fmt: skip


def _by_seed(
    matrix: ScoreMatrix, first: str, second: str, seeds: Mapping[str, Sequence[int]]
) -> dict[int, PassTable] | None:
    """Return the agreement on pass and fail for each seed that both arms have.

    A base model has no seed; each of the other arm's models is then held against it.
    """
    if not matrix.is_binary:
        return None
    a, b = matrix.values[first], matrix.values[second]
    seeds_a, seeds_b = list(seeds[first]), list(seeds[second])
    if not seeds_a and len(a) == 1:
        return {seed: pass_table(a[0], row) for seed, row in zip(seeds_b, b, strict=True)}
    if not seeds_b and len(b) == 1:
        return {seed: pass_table(row, b[0]) for seed, row in zip(seeds_a, a, strict=True)}
    return {
        seed: pass_table(a[seeds_a.index(seed)], b[seeds_b.index(seed)])
        for seed in seeds_a
        if seed in seeds_b
    }


def adjusted(pairs: Sequence[PairComparison]) -> tuple[PairComparison, ...]:
    """Return the pairs with Holm's p-values, over all of them that have one."""
    tested = [pair.p_value for pair in pairs if pair.p_value is not None]
    values = iter(holm(tested))
    return tuple(
        pair
        if pair.p_value is None
        else replace(pair, p_holm=next(values), num_compared=len(tested))
        for pair in pairs
    )
