"""The statistics of reports on simulated comparisons: false findings and coverage."""

from __future__ import annotations

import importlib.util
import math
import sys
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.slow

STUDY = Path(__file__).parents[2] / "experiments" / "statistics_calibration" / "simulate.py"
COUNT = 4000
CHANCE = 3 * math.sqrt(0.05 * 0.95 / COUNT)
"""Three standard errors of a share of 5 %: 1.0 percent points."""


@pytest.fixture(scope="module")
def study():
    spec = importlib.util.spec_from_file_location("statistics_calibration", STUDY)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("effect", [0.0, 0.8])
@pytest.mark.parametrize("num_samples", [1, 5])
def test_one_seed(study, effect: float, num_samples: int) -> None:
    world = study.World(120, num_samples=num_samples, effect=effect)
    found = study.simulate(world, COUNT, np.random.default_rng(1), 2000)
    assert found.covered == pytest.approx(0.95, abs=CHANCE)
    if effect == 0:
        assert found.rejected == pytest.approx(0.05, abs=CHANCE)
        if found.rejected_mcnemar is not None:
            assert found.rejected_mcnemar <= 0.05
    else:
        assert found.truth == pytest.approx(0.116, abs=0.001)
        assert found.rejected > 0.5


@pytest.mark.parametrize("effect", [0.0, 0.8])
@pytest.mark.parametrize("spread", [0.0, 0.3, 0.6])
@pytest.mark.parametrize("num_seeds", [2, 3, 5])
def test_several_seeds(study, effect: float, spread: float, num_seeds: int) -> None:
    world = study.World(150, num_seeds, effect=effect, seed_spread=(spread, spread))
    found = study.simulate(world, COUNT, np.random.default_rng(2), 1000)
    assert found.covered >= 0.95 - CHANCE
    if effect == 0:
        assert found.rejected <= 0.05 + CHANCE
    if spread == 0.6:  # what a bootstrap over problems alone would have claimed
        assert found.covered_problems_only < 0.65


def test_against_a_base_model(study) -> None:
    for effect in (0.0, 0.8):
        world = study.World(150, 3, effect=effect, seed_spread=(0.4, 0.0), has_base=True)
        found = study.simulate(world, COUNT, np.random.default_rng(3), 1000)
        assert found.covered >= 0.95 - CHANCE


def test_the_known_truth_is_the_mean_of_many_draws(study) -> None:
    world = study.World(20_000, 40, effect=0.8, seed_spread=(0.5, 0.1))
    first, second = world.draw(1, np.random.default_rng(4))
    assert first.mean() - second.mean() == pytest.approx(world.true_difference(), abs=0.02)
