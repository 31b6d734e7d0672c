"""Times a training step against the bare float32 network, forwards and backwards, on the same batch."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bench.timing import Ratio, best_times
from r2d2.config import ComputeConfig, TrainConfig
from r2d2.containers import PairBatch
from r2d2.extraction.inference import fast_precision
from r2d2.network import R2D2Network, build_network
from r2d2.network_config import NetworkConfig
from r2d2.training.epoch import make_optimiser, train_epoch
from r2d2.training.siamese import SiameseNetwork
from r2d2.warp import pixel_grid

PAIRS, SIDE, DIM = 4, 192, 128
LIMITS = {"float32": 1.1, "bfloat16": 0.5}


def step(name: str, precision: str, rounds: int) -> Ratio:
    """Measures a step of the full-size network `name`, losses and optimiser included, over floor N."""
    config = TrainConfig(
        network=NetworkConfig(name, channels=4, dim=DIM),
        pairs_per_worker=PAIRS,
        compute=ComputeConfig(precision),
    )
    batch = random_batch()
    network, bare = (build_network(config.network, seed=0).train() for _ in range(2))
    siamese = SiameseNetwork(network, compute=config.compute)
    optimiser = make_optimiser(network, config)
    gradient = torch.randn(PAIRS, DIM, SIDE, SIDE, generator=torch.Generator().manual_seed(1))

    def train() -> None:
        list(train_epoch(siamese, [batch], config, optimiser, epoch=1))

    times = best_times({"floor": lambda: bare_step(bare, batch, gradient), "step": train}, rounds)
    return Ratio(f"training step, {name} {precision} / N", times["step"] / times["floor"], LIMITS[precision])


def has_bfloat16() -> bool:
    """Says whether this processor has arithmetic of bfloat16; otherwise PyTorch imitates it, slowly."""
    return fast_precision(torch.device("cpu")) == torch.bfloat16


def random_batch(pairs: int = PAIRS, side: int = SIDE, seed: int = 0) -> PairBatch:
    """Makes random images and a flow; 90 % of it ends inside image 2, at fractional positions."""
    generator = torch.Generator().manual_seed(seed)
    image1, image2 = torch.randn(2, pairs, 3, side, side, generator=generator)
    aflow = pixel_grid(side, side) * 1.05 + torch.randn(pairs, 2, side, side, generator=generator)
    return PairBatch(image1, image2, aflow, tuple(f"noise {i}" for i in range(pairs)))


def plain(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """Computes the convolution as PyTorch does it."""
    assert not isinstance(layer.padding, str)
    return torch.conv2d(x, layer.weight, layer.bias, layer.stride, layer.padding, layer.dilation)


def bare_step(network: R2D2Network, batch: PairBatch, gradient: Tensor) -> None:
    """Runs floor N: the layers in float32, forwards and backwards, without heads, losses and optimiser."""
    ends = []
    for image in (batch.image1, batch.image2):
        x = image.contiguous()
        for layer in network.ops:
            x = plain(layer, x) if isinstance(layer, nn.Conv2d) else layer(x)
        ends.append(x)
    network.zero_grad(set_to_none=True)
    torch.autograd.backward(ends, [gradient, gradient])
