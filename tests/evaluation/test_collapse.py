import numpy as np
import pytest
import torch

from evaluation.collapse import collapse_signs
from r2d2.containers import DenseFeatures
from r2d2.network import R2D2Network, build_network
from r2d2.network_config import NetworkConfig


class FlatNetwork(R2D2Network):
    """What a collapse leaves: the same repeatability everywhere."""

    def __init__(self):
        super().__init__(NetworkConfig("fast", channels=1, dim=4))
        self.seen = []

    def forward(self, image):
        self.seen.append(tuple(image.shape[2:]))
        ones = torch.ones(len(image), 1, *image.shape[2:])
        return DenseFeatures(ones.expand(-1, 4, -1, -1) / 2, ones, 0.735 * ones)


def test_a_flat_map():
    signs = collapse_signs(FlatNetwork(), [np.zeros((40, 50, 3), np.uint8)])
    assert signs.repeatability_std == pytest.approx(0, abs=1e-6)
    assert signs.mean_reliability == 1


def test_only_the_middle_of_large_images_is_looked_at():
    network = FlatNetwork()
    collapse_signs(network, [np.zeros((40, 5000, 3), np.uint8), np.zeros((3000, 300, 3), np.uint8)])
    assert network.seen == [(40, 256), (256, 256)]


def test_a_real_network_on_noise():
    network = build_network(NetworkConfig("fast", channels=1, dim=8), seed=0).train()
    state = {name: value.clone() for name, value in network.state_dict().items()}
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    signs = collapse_signs(network, [noise])
    assert signs.repeatability_std > 0
    assert 0 < signs.mean_reliability < 1
    assert network.training
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
