"""Pixel coordinates: pixel centres at integers, frames to frames, sampling aligned with corners."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from r2d2 import geometry as g
from r2d2 import warp as w

PERSPECTIVE = np.array([[1.1, 0.1, -3.0], [0.05, 0.9, 2.0], [0.002, -0.001, 1.0]])


def ramp(height, width):
    """A map whose value IS its position: channel 0 x, channel 1 y."""
    return w.pixel_grid(height, width)[None]


def test_pixel_grid_holds_x_then_y():
    grid = w.pixel_grid(3, 5)
    assert grid.shape == (2, 3, 5)
    assert grid[:, 2, 4].tolist() == [4, 2]


def test_homography_maps_points_by_hand():
    points = np.array([[0.0, 0.0], [10.0, 20.0]])
    expected = [[-3, 2], [(11 + 2 - 3) / (0.02 - 0.02 + 1), (0.5 + 18 + 2) / 1.0]]
    np.testing.assert_allclose(g.apply_homography(PERSPECTIVE, points), expected)


@pytest.mark.parametrize("factor", [1.0, 5.0, -0.3])
def test_points_behind_the_horizon_are_nan_whatever_the_scale_of_the_matrix(factor):
    horizon_at_x_10 = factor * np.array([[1.0, 0, 0], [0, 1, 0], [-0.1, 0, 1]])
    mapped = g.apply_homography(horizon_at_x_10, np.array([[5.0, 1.0], [10.0, 1.0], [15.0, 1.0]]))
    np.testing.assert_allclose(mapped, [[10, 2], [np.nan] * 2, [np.nan] * 2])


def test_inverse_homography_leads_back():
    points = np.random.default_rng(0).uniform(0, 100, (50, 2))
    there = g.apply_homography(PERSPECTIVE, points)
    np.testing.assert_allclose(g.apply_homography(np.linalg.inv(PERSPECTIVE), there), points, atol=1e-9)


def test_aflow_is_the_homography_at_every_pixel():
    aflow = w.homography_aflow(PERSPECTIVE, 40, 30)
    assert aflow.shape == (2, 40, 30)
    assert aflow.dtype == torch.float32
    expected = g.apply_homography(PERSPECTIVE, w.pixel_grid(40, 30).permute(1, 2, 0).numpy())
    np.testing.assert_allclose(aflow, expected.transpose(2, 0, 1), rtol=1e-5, atol=1e-5)


def test_resizing_takes_the_frame_to_the_frame():
    resize = g.resize_homography(40, 30, 100, 15)
    np.testing.assert_allclose(
        g.apply_homography(resize, g.frame_corners(40, 30)), g.frame_corners(100, 15), atol=1e-12
    )


@pytest.mark.parametrize(("new_width", "new_height"), [(128, 96), (32, 24), (77, 31)])
def test_resizing_is_what_pillow_and_torch_do(new_width, new_height):
    x = w.pixel_grid(48, 64)[0]
    resize = g.resize_homography(64, 48, new_width, new_height)
    pillow = Image.fromarray(x.numpy()).resize((new_width, new_height), Image.Resampling.BILINEAR)
    pytorch = F.interpolate(x[None, None], (new_height, new_width), mode="bilinear", antialias=True)[0, 0]
    inner = slice(4, -4)
    expected = g.apply_homography(
        np.linalg.inv(resize), w.pixel_grid(new_height, new_width).permute(1, 2, 0)
    )[..., 0]
    np.testing.assert_allclose(np.asarray(pillow)[:, inner], expected[:, inner], atol=1e-3)
    np.testing.assert_allclose(pytorch[:, inner], expected[:, inner], atol=1e-3)


def test_scaling_keeps_the_first_pixel_centre_and_resizing_does_not():
    origin = np.zeros(2)
    assert g.apply_homography(g.scaling(2, 2), origin).tolist() == [0, 0]
    assert g.apply_homography(g.resize_homography(10, 10, 20, 20), origin).tolist() == [0.5, 0.5]


def test_cropping_is_a_translation():
    assert g.apply_homography(g.translation(-3, -4), np.array([5.0, 5.0])).tolist() == [2, 1]


def test_homography_from_four_points():
    source = g.frame_corners(64, 48)
    target = source + np.random.default_rng(1).uniform(-10, 10, (4, 2))
    homography = g.homography_from_points(source, target)
    np.testing.assert_allclose(g.apply_homography(homography, source), target, atol=1e-9)


def test_points_on_a_line_have_no_homography():
    line = np.array([[0.0, 0], [1, 1], [2, 2], [3, 5]])
    with pytest.raises(ValueError, match="lie on a line"):
        g.homography_from_points(line, g.frame_corners(4, 4))


def test_local_scale_is_the_root_of_the_jacobian():
    point = np.array([12.0, 7.0])
    step = 1e-5
    columns = [
        (g.apply_homography(PERSPECTIVE, point + d) - g.apply_homography(PERSPECTIVE, point - d)) / (2 * step)
        for d in (np.array([step, 0]), np.array([0, step]))
    ]
    expected = np.sqrt(abs(np.linalg.det(np.stack(columns, axis=1))))
    np.testing.assert_allclose(g.local_scale(PERSPECTIVE, point), expected, rtol=1e-6)
    np.testing.assert_allclose(g.local_scale(-PERSPECTIVE, point), expected, rtol=1e-6)
    np.testing.assert_allclose(g.local_scale(g.scaling(2, 8), point), 4)


def test_the_jacobian_is_the_quotient_of_small_differences():
    points = np.random.default_rng(2).uniform(0, 50, (6, 2))
    steps = (np.array([1e-5, 0]), np.array([0, 1e-5]))
    columns = [
        (g.apply_homography(PERSPECTIVE, points + d) - g.apply_homography(PERSPECTIVE, points - d)) / 2e-5
        for d in steps
    ]
    for sign in (1, -1):
        np.testing.assert_allclose(g.jacobian(sign * PERSPECTIVE, points), np.stack(columns, -1), rtol=1e-5)


def test_the_grid_of_a_homography_shows_image_2_through_it():
    image2 = ramp(40, 50)
    grid = w.homography_grid(PERSPECTIVE, 20, 30, 40, 50)
    seen = F.grid_sample(image2, grid, align_corners=True)[0]
    aflow = w.homography_aflow(PERSPECTIVE, 20, 30)
    _, valid = w.sampling_grid(aflow[None], 40, 50)
    torch.testing.assert_close(seen[:, valid[0, 0]], aflow[:, valid[0, 0]], atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("size2", [(20, 30), (30, 20), (7, 5)])
def test_warping_positions_gives_the_flow_back(size2):
    aflow = w.homography_aflow(np.array([[0.5, 0.1, 1.2], [-0.05, 0.4, 2.3], [0.001, 0.0, 1.0]]), 24, 28)[
        None
    ]
    warped, valid = w.warp(ramp(*size2), aflow)
    assert valid.any()
    torch.testing.assert_close(warped[:, :, valid[0, 0]], aflow[:, :, valid[0, 0]], atol=1e-4, rtol=1e-4)


def test_the_whole_image_is_valid_and_nothing_beyond_it():
    aflow = w.pixel_grid(4, 6)[None] + 1
    _, valid = w.sampling_grid(aflow, 4, 6)
    assert valid[0, 0, :3, :5].all()
    assert valid.sum() == 15
    _, identity = w.sampling_grid(w.pixel_grid(4, 6)[None], 4, 6)
    assert identity.all()


def test_unknown_flow_is_invalid_warps_to_zero_and_has_finite_gradients():
    aflow = w.pixel_grid(4, 6)[None].clone()
    aflow[0, 0, 1, 2] = torch.nan
    aflow[0, 1, 2, 2] = torch.inf
    map2 = torch.ones(1, 3, 4, 6, requires_grad=True)
    grid, valid = w.sampling_grid(aflow, 4, 6)
    assert torch.isfinite(grid).all()
    warped, _ = w.warp(map2, aflow)
    warped.sum().backward()
    assert valid.sum() == 22
    assert warped[0, :, 1, 2].abs().max() == 0
    assert warped[0, :, 2, 2].abs().max() == 0
    torch.testing.assert_close(map2.grad[0, 0], valid[0, 0].float())


def test_maps_of_one_pixel_and_other_precisions():
    warped, valid = w.warp(torch.full((1, 1, 1, 1), 3.0, dtype=torch.float64), torch.zeros(1, 2, 1, 1))
    assert valid.all()
    assert warped.dtype == torch.float64
    assert warped.item() == 3
