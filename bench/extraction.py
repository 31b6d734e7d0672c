"""Extraction of one image, against the bare float32 network on the same pyramid of images."""

from __future__ import annotations

import torch
from torch import Tensor

from bench.timing import Ratio, best_times
from r2d2.config import NetworkConfig
from r2d2.keypoints import ExtractionSettings, Extractor
from r2d2.network import R2D2Network, build_network
from r2d2.pyramid import pyramid

HEIGHT, WIDTH = 768, 1024
LIMIT = 0.40

# Untrained networks find as many keypoints as trained ones only without thresholds.
SETTINGS = ExtractionSettings(min_reliability=0.0, min_repeatability=0.0)


def extraction(name: str, rounds: int) -> Ratio:
    """The time of the default extraction with the full-size network `name`, over floor F1."""
    network = build_network(NetworkConfig(name, channels=4, dim=128), seed=0).eval()
    image = torch.rand(3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0))
    extract = Extractor(network, SETTINGS)
    images = [level for _, level in pyramid(image[None], SETTINGS)]
    times = best_times(
        {"floor": lambda: bare_network(network, images), "extraction": lambda: extract(image)}, rounds
    )
    return Ratio(f"extraction of {WIDTH}x{HEIGHT}, {name} / F1", times["extraction"] / times["floor"], LIMIT)


def bare_network(network: R2D2Network, images: list[Tensor]) -> None:
    """Floor F1: the layers of the network in float32, as they are, without heads, maxima and descriptors."""
    with torch.inference_mode():
        for image in images:
            x = image.contiguous()
            for layer in network.ops:
                x = layer(x)
