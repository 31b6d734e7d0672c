"""Real dense flow: two photographs of one scene and the disparity measured between them.

They come with scikit-image: `motorcycle` of the Middlebury stereo benchmark. Pixel (x, y) of the left image
is (x - disparity, y) of the right one.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from r2d2.containers import DenseFeatures
from r2d2.data.images import read_image
from r2d2.data.normalisation import normalise
from r2d2.losses.config import LossConfig
from r2d2.losses.pair_loss import pair_loss
from r2d2.losses.reliability import RELIABILITY_LOSSES
from r2d2.losses.similarity import SIMILARITIES
from r2d2.network import build_network
from r2d2.network_config import NetworkConfig
from r2d2.warp import pixel_grid, warp


@pytest.fixture(scope="module")
def stereo():
    """Left image (H, W, 3), right image, and flow (2, H, W), NaN where the disparity is unknown."""
    spec = importlib.util.find_spec("skimage")
    assert spec is not None
    assert spec.origin is not None
    folder = Path(spec.origin).parent / "data"
    with np.load(folder / "motorcycle_disp.npz") as arrays:
        disparity = torch.from_numpy(arrays["arr_0"])
    aflow = pixel_grid(*disparity.shape)
    aflow[0] -= torch.where(torch.isfinite(disparity), disparity, torch.nan)
    return read_image(folder / "motorcycle_left.png"), read_image(folder / "motorcycle_right.png"), aflow


def error(stereo, dx=0.0, dy=0.0):
    """Grey levels between image 1 and image 2 seen through the flow moved by (dx, dy), where valid."""
    left, right, aflow = (torch.as_tensor(value) for value in stereo)
    moved = aflow + torch.tensor([dx, dy]).view(2, 1, 1)
    warped, valid = warp(right.permute(2, 0, 1)[None].float(), moved[None])
    assert 0.85 < valid.float().mean() < 0.93
    return (warped - left.permute(2, 0, 1).float()).abs().mean(dim=1)[valid[:, 0]]


def test_the_second_image_seen_through_the_flow_is_the_first(stereo):
    true = error(stereo)
    assert true.median() < 3.5
    for moved in ({"dx": -1.0}, {"dx": 1.0}, {"dy": -1.0}, {"dy": 1.0}):
        assert true.mean() < 0.75 * error(stereo, **moved).mean()
    for moved in ({"dx": -2.0}, {"dx": 2.0}):
        assert true.mean() < 0.55 * error(stereo, **moved).mean()


def test_half_a_pixel_is_seen_and_neither_side_is_better(stereo):
    true, left, right = (float(error(stereo, dx=dx).mean()) for dx in (0.0, -0.5, 0.5))
    assert true < 0.9 * min(left, right)
    assert left == pytest.approx(right, rel=0.1)


def test_what_is_not_known_is_not_valid(stereo):
    *_, aflow = stereo
    known = torch.isfinite(aflow).all(dim=0)
    assert 0.02 < (~known).float().mean() < 0.15
    _, valid = warp(torch.rand(1, 1, *known.shape), aflow[None])
    assert not valid[0, 0][~known].any()


@pytest.fixture(scope="module")
def crops(stereo):
    """Maps of a part of both images, and the flow between the parts."""
    left, right, aflow = stereo
    rows, columns = slice(200, 320), slice(300, 420)
    network = build_network(NetworkConfig("fast", channels=1, dim=16), seed=0).train()
    with torch.no_grad():
        features = [network(normalise(image[rows, columns])[None]) for image in (left, right)]
    # Both parts begin at the same pixel of their image.
    return *features, aflow[None, :, rows, columns] - torch.tensor([300.0, 200.0]).view(2, 1, 1)


@pytest.mark.parametrize("reliability", sorted(RELIABILITY_LOSSES))
@pytest.mark.parametrize("similarity", sorted(SIMILARITIES))
def test_losses_and_gradients_are_finite_on_real_flow(crops, reliability, similarity):
    *features, aflow = crops
    assert not torch.isfinite(aflow).all()
    leaves = [{name: m.clone().requires_grad_() for name, m in vars(f).items()} for f in features]
    loss = pair_loss(
        *(DenseFeatures(**maps) for maps in leaves),
        aflow,
        LossConfig(reliability=reliability, similarity=similarity),
        torch.Generator().manual_seed(0),
    )
    loss.total.backward()
    assert loss.statistics["valid_queries"] > 50
    assert torch.isfinite(loss.total)
    for maps in leaves:
        assert all(torch.isfinite(m.grad).all() and m.grad.any() for m in maps.values())
