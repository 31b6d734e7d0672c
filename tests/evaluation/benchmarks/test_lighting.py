import numpy as np
import pytest

from evaluation.benchmarks.lighting import relight
from evaluation.benchmarks.validation import STRENGTHS


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, size=(60, 80, 3), dtype=np.uint8)


def test_no_strength_changes_nothing(image):
    np.testing.assert_array_equal(relight(image, 0.0, np.random.default_rng(0)), image)


def test_changes_grow(image):
    change = [
        np.mean(
            [
                np.abs(relight(image, s, np.random.default_rng(seed)) - image.astype(float)).mean()
                for seed in range(8)
            ]
        )
        for s in STRENGTHS
    ]
    assert sorted(change) == change
    assert change[0] < 0.5 * change[-1]


def test_some_are_darker_some_brighter_and_they_are_tinted(image):
    relit = [relight(image, 1.0, np.random.default_rng(seed)).mean(axis=(0, 1)) for seed in range(20)]
    means = np.mean(relit, axis=1)
    assert means.min() < 0.8 * image.mean()
    assert means.max() > 1.2 * image.mean()
    assert np.ptp(relit, axis=1).max() > 20


def test_nothing_moves():
    """A bright spot stays where it is."""
    spot = np.zeros((41, 41, 3), np.uint8)
    spot[15:26, 15:26] = 255
    for seed in range(5):
        grey = relight(spot, 1.0, np.random.default_rng(seed)).astype(float).mean(axis=2)
        weight = np.where(grey > (grey.max() + np.median(grey)) / 2, 1.0, 0.0)
        y, x = np.mgrid[:41, :41]
        assert (weight * x).sum() / weight.sum() == pytest.approx(20, abs=0.2)
        assert (weight * y).sum() / weight.sum() == pytest.approx(20, abs=0.2)
