"""Simulates comparisons with a known truth, and counts how often the report would be wrong.

Run from the repository's root: ``python experiments/statistics_calibration/simulate.py``.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass

import numpy as np
from scipy.special import expit
from scipy.stats import binomtest

from ift_lightning.metrics.outcomes import wilson_interval
from ift_lightning.reporting.scores import FloatArray
from ift_lightning.reporting.statistics.bootstrap import ProblemBootstrap
from ift_lightning.reporting.statistics.differences import Difference, paired_difference
from ift_lightning.reporting.statistics.significance import pass_table


@dataclass(frozen=True)
class World:
    """Where two arms' outcomes come from.

    The chance to solve a problem is logistic in its difficulty (spread 2), in what the method does
    to this very problem (0.5), in the seed, and in what the seed does to this problem (0.5).

    Args:
        num_problems: In the test set.
        num_seeds: Of either arm.
        num_samples: Answers to a problem by a model.
        effect: Difference of the arms, in logits.
        seed_spread: Standard deviation over seeds, in logits; of either arm.
        has_base: Whether the second arm is a base model: one model, which has no seeds.
    """

    num_problems: int
    num_seeds: int = 1
    num_samples: int = 1
    effect: float = 0.0
    seed_spread: tuple[float, float] = (0.0, 0.0)
    has_base: bool = False

    def draw(self, count: int, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """Return the scores of both arms, float64 [count, seeds, problems] each."""
        n = self.num_problems
        difficulty = rng.normal(0, 2, (count, 1, n))
        arms = []
        for sign, spread in zip((0.5, -0.5), self.seed_spread, strict=True):
            is_base = self.has_base and sign < 0
            num_seeds = 1 if is_base else self.num_seeds
            logits = difficulty + sign * self.effect + rng.normal(0, 0.5, (count, 1, n))
            if not is_base:
                logits = logits + rng.normal(0, spread, (count, num_seeds, 1))
                logits = logits + rng.normal(0, 0.5, (count, num_seeds, n))
            else:
                logits = logits + rng.normal(0, 0.5, (count, 1, n))
            chance = expit(logits)
            arms.append(rng.binomial(self.num_samples, chance) / self.num_samples)
        return arms[0], arms[1]

    def true_difference(self) -> float:
        """Return the difference of the arms over all problems and seeds, by integration."""
        if self.effect == 0 and self.seed_spread[0] == self.seed_spread[1] and not self.has_base:
            return 0.0
        nodes, weights = np.polynomial.hermite_e.hermegauss(201)
        weights = weights / weights.sum()
        means = []
        for index, (sign, spread) in enumerate(zip((0.5, -0.5), self.seed_spread, strict=True)):
            is_base = self.has_base and index == 1
            variance = 2.0**2 + 0.5**2 + 0.5**2 + (0 if is_base else spread**2)
            means.append(float(weights @ expit(sign * self.effect + np.sqrt(variance) * nodes)))
        return means[0] - means[1]


@dataclass(frozen=True)
class Outcome:
    """How often a method was wrong."""

    world: World
    truth: float
    rejected: float  # share of p-values under 0.05
    covered: float  # share of intervals with the truth inside
    covered_problems_only: float  # the same, without the variance of seeds
    rejected_mcnemar: float | None
    width: float  # of the interval, on average
    count: int


def simulate(world: World, count: int, rng: np.random.Generator, num_resamples: int) -> Outcome:
    """Draw many comparisons from one world, and judge each as a report would."""
    truth = world.true_difference()
    found: list[Difference] = []
    alone: list[Difference] = []
    p_mcnemar: list[float] = []
    done = 0
    while done < count:
        size = min(count - done, max(1, 2_000_000 // (world.num_problems * world.num_seeds)))
        first, second = world.draw(size, rng)
        bootstrap = ProblemBootstrap(world.num_problems, num_resamples, seed=done)
        found.append(paired_difference(first, second, bootstrap))
        means = [scores.mean(axis=1, keepdims=True) for scores in (first, second)]
        alone.append(paired_difference(means[0], means[1], bootstrap))
        if world.num_seeds == world.num_samples == 1:
            p_mcnemar += [
                pass_table(a[0], b[0]).p_value() for a, b in zip(first, second, strict=True)
            ]
        done += size

    def collect(parts: list[Difference], name: str) -> FloatArray:
        return np.concatenate([getattr(part, name) for part in parts])

    low, high = collect(found, "low"), collect(found, "high")
    low_alone, high_alone = collect(alone, "low"), collect(alone, "high")
    return Outcome(
        world,
        truth,
        float(np.mean(collect(found, "p_value") < 0.05)),
        float(np.mean((low <= truth) & (truth <= high))),
        float(np.mean((low_alone <= truth) & (truth <= high_alone))),
        float(np.mean(np.array(p_mcnemar) < 0.05)) if p_mcnemar else None,
        float(np.mean(high - low)),
        count,
    )


def worlds(effect: float) -> list[World]:
    """Return the worlds of the study for one true effect."""
    found = [World(n, effect=effect) for n in (50, 164, 500)]
    found += [World(164, num_samples=10, effect=effect)]
    for num_seeds in (2, 3, 5):
        for spread in (0.0, 0.2, 0.4):
            for n in (164, 500):
                found.append(World(n, num_seeds, effect=effect, seed_spread=(spread, spread)))
    found += [
        World(164, 3, 5, effect, (0.2, 0.2)),
        World(164, 3, effect=effect, seed_spread=(0.2, 0.0), has_base=True),
        World(164, 3, effect=effect, seed_spread=(0.5, 0.0)),
    ]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000, help="comparisons of each kind")
    parser.add_argument("--resamples", type=int, default=2_000)
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    started = time.perf_counter()
    for effect in (0.0, 0.8):
        print(f"\ntrue effect: {effect} logits\n")
        print(
            "| problems | seeds | answers | spread of seeds (logits) | true difference (points) | "
            "p < 0.05 (%) | McNemar p < 0.05 (%) | interval covers (%) | "
            "problems alone cover (%) | width (points) |"
        )
        print("|---:|---:|---:|---|---:|---:|---:|---:|---:|---:|")
        for world in worlds(effect):
            result = simulate(world, arguments.count, rng, arguments.resamples)
            mcnemar = result.rejected_mcnemar
            seeds = f"{world.num_seeds} and a base model" if world.has_base else world.num_seeds
            spread = f"{world.seed_spread[0]} and {world.seed_spread[1]}"
            print(
                f"| {world.num_problems} | {seeds} | {world.num_samples} | {spread} | "
                f"{100 * result.truth:.1f} | {100 * result.rejected:.1f} | "
                f"{'' if mcnemar is None else f'{100 * mcnemar:.1f}'} | "
                f"{100 * result.covered:.1f} | {100 * result.covered_problems_only:.1f} | "
                f"{100 * result.width:.1f} |",
                flush=True,
            )
    _wilson(rng)
    low, high = binomtest(round(0.05 * arguments.count), arguments.count).proportion_ci()
    print(f"\nA true 5 % shows as {100 * low:.1f} to {100 * high:.1f} % in so many comparisons.")
    print(f"{time.perf_counter() - started:.0f} s")


def _wilson(rng: np.random.Generator) -> None:
    print("\nWilson's interval of one share\n\n| share | of | covers (%) |\n|---:|---:|---:|")
    for share in (0.05, 0.3, 0.7):
        for num in (10, 50, 200):
            rights = rng.binomial(num, share, 20_000)
            ends = [wilson_interval(k, num) for k in range(num + 1)]
            covered = np.mean([ends[k][0] <= share <= ends[k][1] for k in rights])
            print(f"| {share} | {num} | {100 * covered:.1f} |")


if __name__ == "__main__":
    main()
