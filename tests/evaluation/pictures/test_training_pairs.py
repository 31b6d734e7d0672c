import io

import numpy as np
import pytest
import torch
from PIL import Image

from evaluation.pictures.training_pairs import correspondences, shared_parts, training_picture
from r2d2.containers import Pair
from r2d2.warp import pixel_grid


def moved(dx, dy, size=64, known=True):
    """Image 2 is image 1 moved by (dx, dy) pixels."""
    torch.manual_seed(0)
    aflow = pixel_grid(size, size) + torch.tensor([dx, dy]).view(2, 1, 1)
    if not known:
        aflow[:] = torch.nan
    return Pair(torch.rand(3, size, size), torch.rand(3, size, size), aflow, "photo.jpg epoch 1 pair 0")


def test_the_shared_part_of_a_moved_image():
    mask1, mask2 = shared_parts(moved(10.0, -6.0))
    expected1, expected2 = np.zeros((2, 64, 64), bool)
    expected1[6:, :54] = True
    # A partner reaches a pixel farther.
    expected2[:59, 9:] = True
    np.testing.assert_array_equal(mask1, expected1)
    np.testing.assert_array_equal(mask2, expected2)


def test_unknown_flow_is_shared_with_nothing():
    pair = moved(0.0, 0.0)
    pair.aflow[:, 20:] = torch.nan
    mask1, mask2 = shared_parts(pair)
    assert mask1[:20].all()
    assert not mask1[20:].any()
    assert not mask2[21:].any()


def test_points_are_spread_and_joined_to_their_partners():
    points1, points2 = correspondences(moved(10.25, -6.0), cells=4)
    # Of the right cells all but 6 columns of the last are shared, of the upper ones all but 6 rows.
    assert len(points1) == 16
    torch.testing.assert_close(points2, points1 + torch.tensor([10.25, -6.0]))
    assert points1[5].tolist() in ([23, 23], [24, 24], [23, 24], [24, 23])
    assert ((points2 >= 0) & (points2 <= 63)).all()


def test_cells_without_a_partner_have_no_point():
    points1, _ = correspondences(moved(40.0, 0.0), cells=4)
    assert len(points1) == 8
    assert points1[:, 0].max() < 24
    assert len(correspondences(moved(0.0, 0.0, known=False))[0]) == 0


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_picture_of_pairs(count):
    pairs = [moved(5.0 * index, 3.0, known=index < 2) for index in range(count)]
    picture = np.asarray(Image.open(io.BytesIO(training_picture(pairs, "training pairs"))))
    assert picture.shape[1] > (1600 if count > 1 else 800)
    assert picture.std() > 5


def test_what_has_no_partner_is_pale():
    dark = torch.full((3, 64, 64), -2.0)
    pair = Pair(dark, dark, pixel_grid(64, 64) + torch.tensor([32.0, 0.0]).view(2, 1, 1), "dark")
    picture = np.asarray(Image.open(io.BytesIO(training_picture([pair], "pairs"))).convert("L"))
    crop1, crop2 = picture[100:450, 16:416], picture[100:450, 422:822]
    assert np.median(crop1[:, :190]) < 30
    assert np.median(crop1[:, 210:]) > 150
    assert np.median(crop2[:, :180]) > 150
    assert np.median(crop2[:, 210:]) < 30
