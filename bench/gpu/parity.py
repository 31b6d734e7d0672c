"""Compares the device with the CPU's float32: maps, losses, gradients, and the weights after two steps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from bench.gpu.clock import each
from bench.gpu.setup import FLOAT32, NETWORKS, PRECISIONS, Figure, Setup
from bench.step import random_batch
from r2d2.config import TrainConfig
from r2d2.containers import DenseFeatures
from r2d2.losses.pair_loss import pair_loss
from r2d2.losses.reliability import RELIABILITY_LOSSES
from r2d2.network import build_network
from r2d2.training.device import arithmetic_of
from r2d2.training.epoch import make_optimiser, train_epoch
from r2d2.training.siamese import SiameseNetwork
from r2d2.training.step import query_generator

PAIRS = 2
# Largest relative differences of both losses. Which pixel is best is a choice, so rounding may change a few.
LIMITS = {"float32": 1e-3, "tf32": 1e-2, "bfloat16": 5e-2}
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Outcome:
    """An Outcome holds what two steps of a network from scratch gave, on the CPU.

    Attributes:
        maps: of the first images 1, before any step.
        gradient: of all weights, before any step: (P,).
        losses: before the first and before the second step.
        weights: after both: (P,).
    """

    maps: DenseFeatures
    gradient: Tensor
    losses: tuple[float, ...]
    weights: Tensor


def parity(setup: Setup) -> Iterator[Figure]:
    """Yields relative differences to the CPU, for both networks, every reliability loss and precision."""
    for network in NETWORKS:
        for loss in sorted(RELIABILITY_LOSSES):
            expected = outcome(_config(setup, network, loss, FLOAT32), CPU)

            def compare(network: str, loss: str, precision: str, expected: Outcome = expected) -> Figure:
                found = outcome(_config(setup, network, loss, precision), setup.device)
                return compared(found, expected, LIMITS[precision])

            variants = ({"network": network, "loss": loss, "precision": name} for name in PRECISIONS)
            yield from each(variants, compare)


def outcome(config: TrainConfig, device: torch.device) -> Outcome:
    """Trains a network of seed 0 for two steps on noise."""
    network = build_network(config.network, seed=0).to(device)
    siamese = SiameseNetwork(network, compute=config.compute)
    batches = [random_batch(config.pairs_per_worker, config.data.crop_size, seed) for seed in range(2)]
    batch = batches[0].to(device)
    with arithmetic_of(config.compute, device):
        maps, maps2 = siamese(batch.image1, batch.image2)
        loss = pair_loss(maps, maps2, batch.aflow, config.loss, query_generator(0, 1, 0, 0))
        torch.autograd.backward(loss.total)
    gradient = torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])
    steps = train_epoch(siamese, batches, config, make_optimiser(network, config), epoch=1)
    losses = tuple(report.total for report in steps)
    weights = torch.cat([p.detach().flatten() for p in network.parameters()])
    kept = (t.detach().cpu() for t in (maps.descriptors, maps.reliability, maps.repeatability))
    return Outcome(DenseFeatures(*kept), gradient.cpu(), losses, weights.cpu())


def compared(found: Outcome, expected: Outcome, limit: float) -> Figure:
    """Computes relative differences ||found - expected|| / ||expected||; checks those of losses."""
    losses = [abs(a - b) / abs(b) for a, b in zip(found.losses, expected.losses, strict=True)]
    names = ("descriptors", "reliability", "repeatability")
    maps = {name: relative(getattr(found.maps, name), getattr(expected.maps, name)) for name in names}
    return {
        **{name: float(f"{value:.3g}") for name, value in maps.items()},
        "gradient": float(f"{relative(found.gradient, expected.gradient):.3g}"),
        "weights": float(f"{relative(found.weights, expected.weights):.3g}"),
        "losses": [float(f"{value:.3g}") for value in losses],
        "limit": limit,
        "good": max(losses) <= limit,
    }


def relative(found: Tensor, expected: Tensor) -> float:
    """Returns ||found - expected|| / ||expected||, computed in float64."""
    expected = expected.double()
    return float((found.double() - expected).norm() / expected.norm())


def _config(setup: Setup, network: str, loss: str, precision: str) -> TrainConfig:
    config = setup.config(network, precision, pairs_per_worker=PAIRS)
    return TrainConfig.from_dict({**config.to_dict(), "loss": {"reliability": loss}})
