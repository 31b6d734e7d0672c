import math

import pytest

from evaluation.statistics.power import (
    Variances,
    detectable,
    needed_seeds,
    needed_sequences,
    smallest_detectable,
)

USUAL = Variances(2 * 0.005**2, 2 * (0.015**2 + 0.04**2 / 5))


def test_by_hand():
    """Eight differences, three seeds, 108 sequences: t at 0.003125 with 16 degrees of freedom, and at 0.2."""
    error = math.sqrt(2 * (0.005**2 + (0.015**2 + 0.04**2 / 5) / 108) / 3)
    assert smallest_detectable(8, 3, 108) == pytest.approx((3.140 + 0.8647) * error, rel=2e-3)
    assert smallest_detectable(8, 3, 108) == detectable(USUAL, 8, 3, 108)


def test_more_of_anything_shows_smaller_gains():
    usual = smallest_detectable(8, 3, 12)
    assert smallest_detectable(8, 4, 12) < usual
    assert smallest_detectable(8, 3, 24) < usual
    assert smallest_detectable(8, 3, 12, pairs=10) < usual
    assert smallest_detectable(8, 3, 12, seed=0.01) > usual
    assert smallest_detectable(8, 1, 10_000) == math.inf


def test_what_is_needed_suffices_and_less_does_not():
    seeds = needed_seeds(0.01, USUAL, 8, 108)
    assert detectable(USUAL, 8, seeds, 108) <= 0.01 < detectable(USUAL, 8, seeds - 1, 108)
    sequences = needed_sequences(-0.02, USUAL, 8, 3)
    assert detectable(USUAL, 8, 3, sequences) <= 0.02 < detectable(USUAL, 8, 3, sequences - 1)


def test_what_cannot_be_shown():
    assert needed_seeds(0.0001, USUAL, 8, 108) is None
    # No number of images makes up for three seeds.
    assert needed_sequences(0.01, USUAL, 8, 3) is None
