import math

import numpy as np
import pytest

from evaluation.benchmarks.synthesis import (
    COVERAGE,
    first_view,
    random_viewpoint,
    reduce_photo,
    relight,
    render,
)
from evaluation.benchmarks.validation import STRENGTHS
from r2d2.geometry import apply_homography, frame_corners, local_scale, scaling, translation

PHOTO, SIZE = (640, 480), (384, 256)


def gradient(width: int, height: int) -> np.ndarray:
    """A photograph whose grey levels tell the position: red = x / 4, green = y / 4."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x / 4, y / 4, 0 * x], axis=-1).round().astype(np.uint8)


@pytest.mark.parametrize("photo", [(640, 480), (480, 640), (384, 256), (100, 90)])
@pytest.mark.parametrize("size", [(384, 256), (256, 384)])
def test_the_first_view_is_the_middle(photo, size):
    corners = apply_homography(first_view(photo, size), frame_corners(*size))
    np.testing.assert_allclose(corners.mean(axis=0), (np.array(photo) - 1) / 2)
    extent = corners[2] - corners[0]
    assert max(extent / photo) == pytest.approx(COVERAGE)
    assert extent[0] / extent[1] == pytest.approx(size[0] / size[1])


@pytest.mark.parametrize("seed", range(5))
def test_viewpoints_grow_from_mild_to_strong(seed):
    view, rng = first_view(PHOTO, SIZE), np.random.default_rng(seed)
    middle = np.array([(SIZE[0] - 1) / 2, (SIZE[1] - 1) / 2])
    zooms, turns = [], []
    for strength in STRENGTHS:
        homography = random_viewpoint(strength, view, PHOTO, SIZE, rng)
        zooms.append(float(local_scale(homography, apply_homography(np.linalg.inv(homography), middle))))
        right = apply_homography(homography, middle + np.array([[0, 0], [1, 0]]))
        turns.append(abs(math.degrees(math.atan2(*(right[1] - right[0])[::-1]))))
    assert 1.05 < zooms[0] < 1.25
    assert 1.4 < zooms[-1] < 2.2
    assert turns[0] == pytest.approx(6, abs=3)
    assert turns[-1] == pytest.approx(30, abs=12)
    assert sorted(turns) == turns


@pytest.mark.parametrize("photo", [(640, 480), (451, 300), (1000, 200), (90, 100)])
@pytest.mark.parametrize("strength", [0, 0.5, 1])
def test_the_photograph_fills_every_view(photo, strength):
    rng, view = np.random.default_rng(0), first_view(photo, SIZE)
    for _ in range(20):
        homography = random_viewpoint(strength, view, photo, SIZE, rng)
        corners = apply_homography(view @ np.linalg.inv(homography), frame_corners(*SIZE))
        assert (corners >= 0).all()
        assert (corners <= np.array(photo) - 1).all()


def test_no_strength_changes_nothing():
    homography = random_viewpoint(0, first_view(PHOTO, SIZE), PHOTO, SIZE, np.random.default_rng(0))
    np.testing.assert_array_equal(homography, np.eye(3))


def test_a_text_file_holds_a_viewpoint_exactly():
    homography = random_viewpoint(1, first_view(PHOTO, SIZE), PHOTO, SIZE, np.random.default_rng(0))
    again = np.array([float(f"{value:.12g}") for value in homography.ravel()]).reshape(3, 3)
    np.testing.assert_array_equal(again, homography)


@pytest.mark.parametrize("strength", [0, 1])
def test_pixels_come_from_where_the_view_says(strength):
    view = first_view(PHOTO, SIZE)
    view = view @ np.linalg.inv(random_viewpoint(strength, view, PHOTO, SIZE, np.random.default_rng(0)))
    image = render(gradient(*PHOTO), view, SIZE)
    assert image.shape == (256, 384, 3)
    points = np.stack(np.meshgrid(np.arange(384), np.arange(256)), axis=-1)
    positions = apply_homography(view, points)
    # Grey levels come in steps of 1, which are 4 pixels.
    np.testing.assert_allclose(image[..., :2] * 4.0, positions, atol=4.5)
    np.testing.assert_allclose((image[..., :2] * 4.0 - positions).mean(axis=(0, 1)), 0, atol=0.15)


def test_rendering_is_antialiased():
    """A chequerboard of single pixels, seen from twice as far, is grey."""
    y, x = np.mgrid[:512, :768]
    board = np.repeat(((x + y) % 2 * 255).astype(np.uint8)[..., None], 3, axis=2)
    image = render(board, translation(2, 2) @ scaling(1.9, 1.9), (384, 256)).astype(float)
    assert image.std() < 0.2 * board.std()
    assert image.mean() == pytest.approx(127.5, abs=2)


def test_only_large_photographs_are_reduced():
    small = gradient(640, 480)
    assert reduce_photo(small, SIZE) is small
    large = reduce_photo(gradient(4000, 1500), SIZE)
    assert large.shape[1] / large.shape[0] == pytest.approx(4000 / 1500, rel=0.01)
    scale = apply_homography(first_view((large.shape[1], large.shape[0]), SIZE), np.array([[0.0, 0], [1, 0]]))
    assert scale[1, 0] - scale[0, 0] == pytest.approx(2, rel=0.01)


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, size=(60, 80, 3), dtype=np.uint8)


def test_no_strength_changes_no_light(image):
    np.testing.assert_array_equal(relight(image, 0.0, np.random.default_rng(0)), image)


def test_changes_of_light_grow(image):
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


def test_some_lights_are_darker_some_brighter_and_they_are_tinted(image):
    relit = [relight(image, 1.0, np.random.default_rng(seed)).mean(axis=(0, 1)) for seed in range(20)]
    means = np.mean(relit, axis=1)
    assert means.min() < 0.8 * image.mean()
    assert means.max() > 1.2 * image.mean()
    assert np.ptp(relit, axis=1).max() > 20


def test_light_moves_nothing():
    """A bright spot stays where it is."""
    spot = np.zeros((41, 41, 3), np.uint8)
    spot[15:26, 15:26] = 255
    for seed in range(5):
        grey = relight(spot, 1.0, np.random.default_rng(seed)).astype(float).mean(axis=2)
        weight = np.where(grey > (grey.max() + np.median(grey)) / 2, 1.0, 0.0)
        y, x = np.mgrid[:41, :41]
        assert (weight * x).sum() / weight.sum() == pytest.approx(20, abs=0.2)
        assert (weight * y).sum() / weight.sum() == pytest.approx(20, abs=0.2)
