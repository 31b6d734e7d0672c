"""A training step, against the bare float32 network forwards and backwards on the same batch."""

from __future__ import annotations

import torch
from torch import Tensor

from bench.timing import Ratio, best_times
from r2d2.config import NetworkConfig, TrainConfig
from r2d2.containers import PairBatch
from r2d2.geometry import pixel_grid
from r2d2.network import R2D2Network, build_network
from r2d2.training import SiameseNetwork, make_optimiser, train_epoch

PAIRS, SIDE = 4, 192
LIMIT = 1.1


def step(name: str, rounds: int) -> Ratio:
    config = TrainConfig(network=NetworkConfig(name, channels=4, dim=128), pairs_per_worker=PAIRS)
    batch = random_batch()
    network = build_network(config.network, seed=0)
    bare = build_network(config.network, seed=0).train()
    siamese = SiameseNetwork(network)
    optimiser = make_optimiser(network, config)
    gradient = torch.randn(PAIRS, 128, SIDE, SIDE, generator=torch.Generator().manual_seed(1))

    def train() -> None:
        list(train_epoch(siamese, [batch], config, optimiser, epoch=1))

    times = best_times({"floor": lambda: bare_step(bare, batch, gradient), "step": train}, rounds)
    print(name, times)
    return Ratio(f"training step, {name} / N", times["step"] / times["floor"], LIMIT)


def random_batch() -> PairBatch:
    generator = torch.Generator().manual_seed(0)
    image1, image2 = torch.randn(2, PAIRS, 3, SIDE, SIDE, generator=generator)
    aflow = pixel_grid(SIDE, SIDE) * 0.9 + torch.randn(PAIRS, 2, SIDE, SIDE, generator=generator)
    return PairBatch(image1, image2, aflow, tuple(f"pair {i}" for i in range(PAIRS)))


def bare_step(network: R2D2Network, batch: PairBatch, gradient: Tensor) -> None:
    """Floor N"""
    ends = []
    for image in (batch.image1, batch.image2):
        x = image
        for layer in network.ops:
            x = layer(x)
        ends.append(x)
    network.zero_grad(set_to_none=True)
    torch.autograd.backward(ends, [gradient, gradient])
