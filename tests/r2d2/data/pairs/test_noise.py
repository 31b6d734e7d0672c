"""The noise of a window has the strength that two resizings leave of noise in single pixels."""

import numpy as np
import pytest
from PIL import Image

from r2d2.data.pairs.noise import noise_field
from r2d2.data.pairs.windows import Window

SIGMA = 25 / np.sqrt(12)


def resized_twice(rng, before, after, window, crop_size):
    """The recipe's way, one channel: whole image, resized, cut, resized."""
    noise = rng.uniform(-12.5, 12.5, before[::-1]).astype(np.float32)
    image = Image.fromarray(noise).resize(after, Image.Resampling.BILINEAR)
    box = (window.left, window.top, window.left + window.width, window.top + window.height)
    return np.asarray(image.crop(box).resize((crop_size, crop_size), Image.Resampling.BILINEAR))


@pytest.mark.parametrize(
    ("before", "after", "side"),
    [(400, 413, 96), (400, 793, 96), (400, 1171, 300), (400, 219, 96), (900, 307, 96), (300, 533, 250)],
)
def test_the_strength_is_that_of_the_recipe(before, after, side):
    rng = np.random.default_rng(0)
    window = Window(20, 30, side, side)
    sizes = (before, before), (after, after)
    quick = [noise_field(rng, *sizes, window, 96, 25.0).std().item() for _ in range(20)]
    plain = [resized_twice(rng, *sizes, window, 96).std() for _ in range(20)]
    assert np.mean(quick) == pytest.approx(np.mean(plain), rel=0.08)


def test_unresized_noise_is_uniform_and_independent():
    noise = noise_field(np.random.default_rng(0), (300, 300), (300, 300), Window(0, 0, 192, 192), 192, 25.0)
    assert noise.shape == (3, 192, 192)
    assert noise.min() == pytest.approx(-12.5, abs=0.1)
    assert noise.max() == pytest.approx(12.5, abs=0.1)
    assert noise.mean().abs() < 0.1
    assert noise.std() == pytest.approx(SIGMA, rel=0.01)
    flat = noise.flatten(1).numpy()
    assert np.abs(np.corrcoef(flat)[np.triu_indices(3, 1)]).max() < 0.02
    assert abs(np.corrcoef(flat[0, :-1], flat[0, 1:])[0, 1]) < 0.02


def test_the_width_scales_the_noise():
    fields = [
        noise_field(np.random.default_rng(0), (300, 200), (400, 266), Window(9, 9, 96, 96), 96, width)
        for width in (10.0, 20.0)
    ]
    np.testing.assert_allclose(fields[1], 2 * fields[0], rtol=1e-5)
