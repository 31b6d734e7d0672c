import math
from statistics import NormalDist

import numpy as np
import pytest

from evaluation.statistics.spending import levels_of, nominal_levels

FIFTHS = (0.2, 0.4, 0.6, 0.8, 1.0)


def bounds(levels):
    return [NormalDist().inv_cdf(1 - level / 2) for level in levels]


def test_one_look_has_the_whole_chance():
    assert nominal_levels(0.05, (1.0,)) == pytest.approx((0.05,), abs=1e-6)


def test_the_bounds_of_pococks_kind_are_those_of_the_tables():
    """Lan and DeMets' spending function of Pocock's kind, five looks, two sides of 0.025."""
    spent = [0.05 * math.log(1 + (math.e - 1) * time) for time in FIFTHS]
    assert bounds(levels_of(spent, FIFTHS)) == pytest.approx(
        [2.4380, 2.4268, 2.4101, 2.3966, 2.3859], abs=2e-4
    )


def test_the_bounds_of_obrien_and_flemings_kind_are_those_of_the_tables():
    normal = NormalDist()
    quantile = normal.inv_cdf(1 - 0.025 / 2)
    spent = [4 * (1 - normal.cdf(quantile / time**0.5)) for time in FIFTHS]
    assert bounds(levels_of(spent, FIFTHS)) == pytest.approx(
        [4.8769, 3.3569, 2.6803, 2.2898, 2.0310], abs=2e-4
    )


@pytest.mark.parametrize("alpha", [0.05, 0.05 / 8])
def test_all_looks_together_raise_a_false_alarm_with_the_chance_alpha(alpha):
    """Two hundred thousand walks of eleven steps."""
    seeds = np.arange(2, 13)
    steps = np.random.default_rng(0).standard_normal((200_000, 12))
    walks = steps.cumsum(axis=1)[:, seeds - 1] / seeds**0.5
    crossed = (np.abs(walks) > bounds(nominal_levels(alpha, tuple(seeds / 12)))).any(axis=1).mean()
    assert crossed == pytest.approx(alpha, abs=4 * (alpha / 200_000) ** 0.5)
