"""Brightness, contrast, saturation and hue, by hand and beside the standard library."""

import colorsys

import numpy as np
import pytest
import torch

from r2d2.config import DataConfig
from r2d2.data.pairs.photometric import (
    Jitter,
    change_brightness,
    change_contrast,
    change_saturation,
    grey,
    shift_hue,
)

ORANGE = torch.tensor([[200.0], [100.0], [20.0]])


def colours():
    """Every mixture of five levels, ties, greys and pure colours among them, and random ones: (3, N)."""
    levels = np.linspace(0, 255, 5)
    mixtures = np.stack(np.meshgrid(levels, levels, levels)).reshape(3, -1)
    return torch.from_numpy(np.hstack([mixtures, np.random.default_rng(0).uniform(0, 255, (3, 500))]))


def test_brightness_multiplies_and_clips():
    assert change_brightness(ORANGE, 1.5).flatten().tolist() == [255, 150, 30]


def test_contrast_multiplies_the_distance_to_the_pivot_and_clips():
    assert change_contrast(ORANGE, 2, torch.tensor(110.0)).flatten().tolist() == [255, 90, 0]


def test_saturation_multiplies_the_distance_to_the_grey_of_the_pixel():
    own = 0.299 * 200 + 0.587 * 100 + 0.114 * 20
    assert grey(ORANGE).item() == pytest.approx(own)
    expected = [own + 0.5 * (value - own) for value in (200, 100, 20)]
    np.testing.assert_allclose(change_saturation(ORANGE, 0.5).flatten(), expected, rtol=1e-6)
    assert change_saturation(ORANGE, 0).flatten().tolist() == pytest.approx([own] * 3)


@pytest.mark.parametrize("turns", [0, 0.05, -0.1, 1 / 3, 0.5, -0.5])
def test_hue_is_turned_as_the_standard_library_would(turns):
    planes = colours()
    expected = []
    for red, green, blue in planes.T.tolist():
        hue, saturation, value = colorsys.rgb_to_hsv(red, green, blue)
        expected.append(colorsys.hsv_to_rgb((hue + turns) % 1, saturation, value))
    np.testing.assert_allclose(shift_hue(planes, turns).T, expected, atol=1e-9)


def test_a_third_of_a_turn_takes_red_to_green():
    np.testing.assert_allclose(shift_hue(ORANGE, 1 / 3).flatten(), [20, 200, 100], atol=1e-4)


def test_contrast_turns_on_the_mean_grey_of_the_whole_image():
    jitter = Jitter({"brightness": 1, "contrast": 2, "saturation": 1, "hue": 0}, ("contrast",))
    whole = torch.cat([torch.zeros(3, 10), torch.full((3, 10), 100.0)], dim=1)
    changed = jitter.apply(torch.full((3, 4), 60.0), whole)
    assert changed.shape == (3, 4)
    torch.testing.assert_close(changed, torch.full((3, 4), 70.0))


def test_the_whole_image_goes_through_the_same_changes_before_contrast():
    factors = {"brightness": 0.5, "contrast": 2, "saturation": 1, "hue": 0}
    jitter = Jitter(factors, ("brightness", "contrast"))
    torch.testing.assert_close(
        jitter.apply(torch.full((3, 4), 60.0), torch.full((3, 4), 100.0)), torch.full((3, 4), 10.0)
    )


def test_neutral_factors_change_nothing():
    config = DataConfig(brightness=0.0, contrast=0.0, saturation=0.0, hue=0.0)
    planes = colours()
    for seed in range(5):
        jitter = Jitter.draw(config, np.random.default_rng(seed))
        torch.testing.assert_close(jitter.apply(planes, planes), planes)


def test_factors_are_uniform_and_all_orders_occur():
    drawn = [Jitter.draw(DataConfig(), np.random.default_rng(k)) for k in range(2000)]
    for name, centre, amount in [
        ("brightness", 1, 0.2),
        ("contrast", 1, 0.2),
        ("saturation", 1, 0.2),
        ("hue", 0, 0.1),
    ]:
        values = np.array([jitter.factors[name] for jitter in drawn])
        shares, _ = np.histogram(values, bins=8, range=(centre - amount, centre + amount))
        assert shares.sum() == 2000
        np.testing.assert_allclose(shares / 2000, 1 / 8, atol=0.03)
    assert len({jitter.order for jitter in drawn}) == 24
