"""Convolutions with fewer products are convolutions."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from r2d2 import winograd as module
from r2d2.config import NetworkConfig
from r2d2.inference import FastNetwork
from r2d2.network import NETWORKS, build_network
from r2d2.winograd import POINTS, winograd

# Of the networks' layers.
SIZES_AND_DILATIONS = [(3, 1), (3, 2), (3, 4), (2, 2), (2, 8), (2, 16)]


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def convolutions(size, dilation, height, width, inputs=5, outputs=7, rectified=False):
    """The result, and what it should be, of a convolution with outputs of about unit variance."""
    weight = noise(outputs, inputs, size, size) / (inputs * size**2) ** 0.5
    x, bias = noise(1, inputs, height, width, seed=1), noise(outputs, seed=2)
    padding = (size - 1) * dilation // 2
    expected = F.conv2d(x, weight, bias, padding=padding, dilation=dilation)
    single = x.float().contiguous(memory_format=torch.channels_last)
    found = winograd(weight, bias, padding, dilation)(single, rectified)
    return found, expected.relu() if rectified else expected


@pytest.mark.parametrize(("size", "dilation"), SIZES_AND_DILATIONS)
@pytest.mark.parametrize(("height", "width"), [(4, 4), (33, 47), (64, 32), (5, 300)])
@pytest.mark.parametrize("tiles", [1, 50, module.STRIP_TILES])
def test_the_result_is_that_of_the_convolution(monkeypatch, size, dilation, height, width, tiles):
    monkeypatch.setattr(module, "STRIP_TILES", tiles)
    found, expected = convolutions(size, dilation, height, width)
    assert found.dtype == torch.float32
    assert found.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(found.double(), expected, atol=2e-5, rtol=0)


def test_a_relu_follows_if_asked_for():
    found, expected = convolutions(3, 2, 20, 30, rectified=True)
    assert found.min() == 0
    torch.testing.assert_close(found.double(), expected, atol=2e-5, rtol=0)


@pytest.mark.parametrize("size", sorted(POINTS))
def test_rounding_costs_less_than_a_digit(size):
    weight, x = noise(32, 32, size, size) / (32 * size**2) ** 0.5, noise(1, 32, 40, 40, seed=1)
    bias, expected = torch.zeros(32), F.conv2d(x, weight)
    single = x.float().contiguous(memory_format=torch.channels_last)
    errors = [
        (found.double() - expected).square().mean().sqrt()
        for found in (winograd(weight, bias, 0, 1)(single), F.conv2d(single, weight.float()))
    ]
    assert errors[0] < 10 * errors[1]


def test_what_is_not_a_number_stays_within_its_tiles():
    x = torch.zeros(1, 3, 12, 12).contiguous(memory_format=torch.channels_last)
    x[0, 0, 0, 0] = torch.nan
    found = winograd(noise(2, 3, 3, 3), torch.zeros(2), 1, 1)(x)
    assert found[0, :, :2, :2].isnan().all()
    assert found[0, :, 4:, 4:].isfinite().all()


@pytest.fixture
def used(monkeypatch):
    """The convolutions that were called."""
    found, call = [], module.WinogradConvolution.__call__

    def note(self, x, rectified=False):
        found.append(self)
        return call(self, x, rectified)

    monkeypatch.setattr(module.WinogradConvolution, "__call__", note)
    return found


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_wide_networks_use_it_and_say_the_same(name, used):
    network = build_network(NetworkConfig(name, channels=4, dim=128), seed=0).eval()
    image = noise(1, 3, 36, 52).float()
    with torch.inference_mode():
        maps, expected = FastNetwork(network, torch.float32)(image), network(image)
    assert len(used) == 6
    torch.testing.assert_close(maps.reliability, expected.reliability[0, 0], atol=1e-5, rtol=0)
    torch.testing.assert_close(maps.repeatability, expected.repeatability[0, 0], atol=1e-5, rtol=0)
    rows, columns = torch.tensor([0, 5, 35]), torch.tensor([51, 20, 0])
    described = expected.descriptors[0][:, rows, columns].T
    torch.testing.assert_close(maps.describe(rows, columns), described, atol=1e-5, rtol=0)


def test_networks_in_16_bits_do_not_use_it(used):
    network = build_network(NetworkConfig("fast", channels=4, dim=128), seed=0).eval()
    with torch.inference_mode():
        FastNetwork(network, torch.bfloat16)(noise(1, 3, 8, 8).float())
    assert not used
