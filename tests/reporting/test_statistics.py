"""Intervals and tests, against reference implementations, by hand, and by their properties."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from ift_lightning.metrics.outcomes import wilson_interval
from ift_lightning.reporting.statistics.bootstrap import (
    ProblemBootstrap,
    bootstrap_p_value,
    expanded_level,
    percentile_interval,
)
from ift_lightning.reporting.statistics.differences import paired_difference, seed_variance
from ift_lightning.reporting.statistics.power import (
    detectable_difference,
    power_of,
    problems_needed,
)
from ift_lightning.reporting.statistics.significance import (
    PassTable,
    cohens_dz,
    cohens_h,
    holm,
    pass_table,
    welch,
)


def test_resamples_are_drawn_from_the_problems() -> None:
    """Every weight is a whole number of draws, and each resample draws n problems."""
    bootstrap = ProblemBootstrap(7, 500)
    counts = bootstrap.means(np.eye(7)) * 7  # [problem, resample]: how often it was drawn
    assert np.allclose(counts, counts.round())
    assert np.allclose(counts.sum(axis=0), 7)
    assert np.allclose(counts.mean(axis=1), 1, atol=0.15)


def test_all_arms_see_the_same_resamples() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.random((2, 40))
    bootstrap = ProblemBootstrap(40, 300)
    assert np.allclose(bootstrap.means(a) - bootstrap.means(b), bootstrap.means(a - b))
    assert np.array_equal(bootstrap.means(a), bootstrap.means(a))


def test_chunks_change_nothing_but_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(1).random(30)
    whole = ProblemBootstrap(30, 4000).means(values)
    monkeypatch.setattr("ift_lightning.reporting.statistics.bootstrap._CHUNK_ELEMENTS", 3000)
    parts = ProblemBootstrap(30, 4000).means(values)
    assert parts.shape == whole.shape == (4000,)
    assert np.array_equal(parts, whole)


def test_the_interval_is_that_of_scipy_at_the_expanded_level() -> None:
    values = np.random.default_rng(2).exponential(size=25)
    level = expanded_level(25, 0.95)
    low, high = percentile_interval(ProblemBootstrap(25, 40_000).means(values), 25)
    reference = stats.bootstrap(
        (values,), np.mean, n_resamples=40_000, confidence_level=1 - 2 * level,
        method="percentile", vectorized=True, rng=3,
    ).confidence_interval  # fmt: skip
    assert low == pytest.approx(reference.low, abs=0.01)
    assert high == pytest.approx(reference.high, abs=0.01)


def test_the_expanded_level_by_hand() -> None:
    # n = 5: t(0.975, 4) = 2.776445, times sqrt(5 / 4) = 3.104160; Phi(-3.104160) = 0.000954
    assert expanded_level(5, 0.95) == pytest.approx(0.000954, abs=2e-6)
    assert expanded_level(10**7, 0.95) == pytest.approx(0.025, abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.floats(-0.3, 0.3), st.integers(8, 60))
def test_p_value_and_interval_agree(seed: int, shift: float, num: int) -> None:
    values = np.random.default_rng(seed).normal(shift, 0.5, num)
    resampled = ProblemBootstrap(num, 20_000).means(values)
    low, high = percentile_interval(resampled, num)
    p_value = float(bootstrap_p_value(resampled, num))
    if p_value < 0.047:
        assert low > 0 or high < 0
    if p_value > 0.053:
        assert low <= 0 <= high


def test_p_value_is_near_that_of_students_test() -> None:
    values = np.random.default_rng(5).normal(0.2, 0.6, 60)
    p_value = float(bootstrap_p_value(ProblemBootstrap(60, 50_000).means(values), 60))
    assert p_value == pytest.approx(stats.ttest_1samp(values, 0).pvalue, rel=0.25)


def test_seed_variance_by_hand() -> None:
    scores = np.array([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]])  # means 0.5, 1, 0: variance 0.25
    assert seed_variance(scores) == pytest.approx(0.25 / 3)
    assert seed_variance(scores[:1]) == 0


def test_one_seed_is_a_paired_bootstrap_over_problems() -> None:
    rng = np.random.default_rng(6)
    a, b = rng.random((2, 1, 80))
    bootstrap = ProblemBootstrap(80, 4000)
    found = paired_difference(a, b, bootstrap)
    low, high = percentile_interval(bootstrap.means((a - b)[0]), 80)
    assert (found.estimate, found.low, found.high) == (
        pytest.approx((a - b).mean()), pytest.approx(low), pytest.approx(high)
    )  # fmt: skip
    assert found.seeds_variance == 0
    assert found.standard_error == pytest.approx((a - b).std(ddof=1) / math.sqrt(80), rel=0.05)


def test_several_seeds_by_a_loop() -> None:
    """The whole formula once more, without broadcasting."""
    rng = np.random.default_rng(7)
    a = (rng.random((3, 50)) < np.array([[0.7], [0.6], [0.8]])).astype(float)
    b = (rng.random((4, 50)) < np.array([[0.5], [0.3], [0.4], [0.5]])).astype(float)
    bootstrap = ProblemBootstrap(50, 3000)
    found = paired_difference(a, b, bootstrap)

    by_problem = [a[:, i].mean() - b[:, i].mean() for i in range(50)]
    problems = np.var(bootstrap.means(np.array(by_problem))) * 50 / 49
    part_a = np.var([row.mean() for row in a], ddof=1) / 3
    part_b = np.var([row.mean() for row in b], ddof=1) / 4
    total = problems + part_a + part_b
    df = total**2 / (problems**2 / 49 + part_a**2 / 2 + part_b**2 / 3)
    df = min(df, 2 * (2 + 3))
    half = stats.t.ppf(0.975, df) * math.sqrt(total)
    estimate = np.mean(by_problem)
    assert found.seeds_variance == pytest.approx(part_a + part_b)
    assert found.degrees_of_freedom == pytest.approx(df)
    assert found.low == pytest.approx(estimate - half)
    assert found.high == pytest.approx(estimate + half)
    assert found.p_value == pytest.approx(2 * stats.t.sf(abs(estimate) / math.sqrt(total), df))


def test_seeds_never_make_an_interval_narrower() -> None:
    rng = np.random.default_rng(8)
    for _ in range(20):
        a, b = rng.random((2, 3, 40))
        bootstrap = ProblemBootstrap(40, 1000)
        found = paired_difference(a, b, bootstrap)
        alone = paired_difference(a.mean(0)[None], b.mean(0)[None], bootstrap)
        assert found.low <= alone.low
        assert found.high >= alone.high
        assert found.p_value >= alone.p_value


def test_batches_are_worked_through_one_by_one() -> None:
    rng = np.random.default_rng(9)
    a, b = rng.random((2, 5, 3, 30))
    bootstrap = ProblemBootstrap(30, 500)
    together = paired_difference(a, b, bootstrap)
    for i in range(5):
        single = paired_difference(a[i], b[i], bootstrap)
        for name in ("estimate", "low", "high", "p_value", "degrees_of_freedom"):
            assert getattr(together, name)[i] == pytest.approx(float(getattr(single, name)))


def test_equal_outcomes_are_no_difference() -> None:
    scores = np.ones((2, 10)) * np.arange(10) % 2
    found = paired_difference(scores, scores, ProblemBootstrap(10, 500))
    assert (found.estimate, found.p_value) == (0, 1)


def test_mcnemar_is_the_binomial_test_of_disagreements() -> None:
    table = PassTable(both=30, only_first=12, only_second=3, neither=55)
    assert table.p_value() == pytest.approx(stats.binomtest(3, 15, 0.5).pvalue)
    assert table.p_value() == pytest.approx(0.03515625)
    assert PassTable(5, 0, 0, 5).p_value() == 1
    assert PassTable(5, 4, 4, 5).p_value() == 1
    assert table.odds_ratio() == pytest.approx(12.5 / 3.5)


def test_pass_table_counts() -> None:
    first, second = np.array([1, 1, 0, 0, 1.0]), np.array([1, 0, 1, 0, 0.0])
    assert pass_table(first, second) == PassTable(1, 2, 1, 1)


def test_wilson_published_values() -> None:
    # Newcombe 1998, https://doi.org/10.1002/(SICI)1097-0258(19980430)17:8<857::AID-SIM777>3.0.CO;2-E
    # table I, method 3.
    for right, num, low, high in [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605),
                                  (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)]:  # fmt: skip
        ends = wilson_interval(right, num)
        assert ends == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []


def test_effect_sizes_by_hand() -> None:
    assert cohens_h(0.5, 0.25) == pytest.approx(2 * math.asin(math.sqrt(0.5)) - math.pi / 3)
    assert cohens_dz(np.array([1.0, 2.0, 3.0]), np.array([0.0, 0.0, 0.0])) == pytest.approx(2)
    assert cohens_dz(np.ones(3), np.zeros(3)) is None


def test_welch_by_hand() -> None:
    a, b = np.array([1.0, 2.0, 3.0]), np.array([2.0, 4.0])
    found = welch(a, b)
    assert found is not None
    # variances 1 / 3 and 2 / 2; t = -1 / sqrt(4 / 3); df = (4/3)^2 / ((1/3)^2 / 2 + 1)
    assert found.standard_error == pytest.approx(math.sqrt(4 / 3))
    assert found.degrees_of_freedom == pytest.approx((16 / 9) / (1 / 18 + 1))
    half = stats.t.ppf(0.975, found.degrees_of_freedom) * found.standard_error
    assert (found.low, found.high) == (pytest.approx(-1 - half), pytest.approx(-1 + half))
    assert welch(a, b[:1]) is None
    assert welch(np.ones(2), np.zeros(2)) is None


def test_power_of_the_textbook() -> None:
    # Cohen 1988, section 2.4: a medium effect, two-sided 5 %, 80 % power: 34 pairs.
    assert problems_needed(0.5, 1.0) == 34
    assert problems_needed(0.01, 1.0) == pytest.approx(78_489, abs=1)
    assert detectable_difference(1.0, 10**6) == pytest.approx(1.959964 + 0.841621, abs=1e-4)


def test_half_the_detectable_effect_needs_four_times_the_problems() -> None:
    power = power_of(200, 0.02, 0.0, 199, 1)
    assert power is not None
    assert power.smaller == power.detectable / 2
    assert power.num_problems_needed == pytest.approx(800, rel=0.02)
    assert power.num_seeds_needed is None


def test_where_seeds_differ_too_much_more_problems_do_not_help() -> None:
    power = power_of(200, 0.01, 0.03**2, 8, 3)
    assert power is not None
    assert power.num_problems_needed is None
    # A quarter of 1e-3 is 2.5e-4; the problems keep 1e-4, so 1.5e-4 is left for seeds' 9e-4.
    assert power.num_seeds_needed == 3 * 6
    # Here 2.5e-5 would be left for seeds' 4e-4, 16 times as many: four times of both are cheaper.
    many = power_of(200, 0.01, 0.02**2, 8, 3)
    assert many is not None
    assert (many.num_problems_needed, many.num_seeds_needed) == (800, 12)
    small = power_of(200, 0.02, 0.005**2, 100, 3)
    # A quarter of 4.25e-4 is 1.0625e-4; seeds take 2.5e-5: 200 * 4e-4 / 8.125e-5
    assert small is not None
    assert small.num_problems_needed == 985
    both = power_of(200, 0.02, 0.02**2, 8, 3)
    assert both is not None
    assert (both.num_problems_needed, both.num_seeds_needed) == (800, 12)
    assert power_of(10, 0.0, 0.0, 9, 1) is None


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 30), st.integers(1, 4), st.floats(0, 0.5))
def test_no_undetected_difference_is_called_detectable(
    seed: int, num_compared: int, num_seeds: int, shift: float
) -> None:
    """A pair that Holm's method does not find is smaller than what the same pair could show."""
    rng = np.random.default_rng(seed)
    first = rng.normal(shift, 0.5, (num_seeds, 60)) + rng.normal(0, 0.1, (num_seeds, 1))
    second = rng.normal(0, 0.5, (num_seeds, 60)) + rng.normal(0, 0.1, (num_seeds, 1))
    found = paired_difference(first, second, ProblemBootstrap(60, 4000))
    power = power_of(
        60, float(found.problems_error), float(found.seeds_variance),
        float(found.degrees_of_freedom), max(num_seeds, 1), num_compared=num_compared,
    )  # fmt: skip
    assert power is not None
    if float(found.p_value) >= 0.05 / num_compared:
        assert abs(float(found.estimate)) < power.detectable


def test_one_trained_seed_is_taken_to_vary_like_the_other_arms() -> None:
    rng = np.random.default_rng(3)
    first, second = rng.random((3, 50)), rng.random((1, 50))
    bootstrap = ProblemBootstrap(50, 2000)
    of_seed = float(first.mean(axis=1).var(ddof=1))
    trained = paired_difference(first, second, bootstrap)
    assert float(trained.seeds_variance) == pytest.approx(of_seed * (1 / 3 + 1))
    base = paired_difference(first, second, bootstrap, is_trained=(True, False))
    assert float(base.seeds_variance) == pytest.approx(of_seed / 3)
    turned = paired_difference(second, first, bootstrap, is_trained=(False, True))
    assert float(turned.p_value) == pytest.approx(float(base.p_value), abs=0.01)
    assert float(trained.p_value) > float(base.p_value)


@pytest.mark.slow
def test_one_trained_seed_against_three_has_few_false_findings() -> None:
    rng = np.random.default_rng(4)
    bootstrap = ProblemBootstrap(164, 1000)
    false = []
    for _ in range(400):
        ability = rng.normal(0, 1.5, 164)
        logits = ability + rng.normal(0, 0.4, (4, 1))
        passes = (rng.random((4, 164)) < 1 / (1 + np.exp(-logits))).astype(float)
        false.append(float(paired_difference(passes[:3], passes[3:], bootstrap).p_value) < 0.05)
    assert np.mean(false) <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / 400)


def test_the_detectable_difference_is_found_as_often_as_it_says() -> None:
    rng = np.random.default_rng(10)
    error = 0.1 / math.sqrt(64)
    size = detectable_difference(error, 63)
    draws = rng.normal(size, 0.1, (4000, 64))
    found = stats.ttest_1samp(draws, 0, axis=1).pvalue < 0.05
    assert found.mean() == pytest.approx(0.8, abs=0.03)
