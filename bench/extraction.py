"""Times extraction of one image against the bare float32 network on the same pyramid of images.

Each of the two has a process of its own, since the C library treats freed memory differently in them
(`r2d2.processor.allocator`): the bare network has PyTorch's defaults, as any program that uses it, and
extraction has the settings of this project's programs. The time of the bare network with kept memory is shown
beside it.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import cache

import torch
from torch import Tensor

from bench.timing import Ratio, best_times
from r2d2.extraction.keypoints import Extractor
from r2d2.extraction.pyramid import pyramid
from r2d2.extraction.settings import ExtractionSettings
from r2d2.network import R2D2Network, build_network
from r2d2.network_config import NetworkConfig
from r2d2.processor.allocator import keep_memory

HEIGHT, WIDTH = 768, 1024
LIMIT = 0.40

# Untrained networks find as many keypoints as trained ones only without thresholds.
SETTINGS = ExtractionSettings(min_reliability=0.0, min_repeatability=0.0)


def extraction(name: str, rounds: int, threads: int) -> Iterator[Ratio]:
    """Measures the default extraction with the full-size network `name`, over floor F1."""
    with _process(threads, keep=False) as usual, _process(threads, keep=True) as keeping:
        works = {
            "floor": lambda: usual.submit(bare_network, name).result(),
            "kept floor": lambda: keeping.submit(bare_network, name).result(),
            "extraction": lambda: keeping.submit(extract, name).result(),
        }
        times = best_times(works, rounds)
    title = f"extraction of {WIDTH}x{HEIGHT}, {name} / F1"
    yield Ratio(title, times["extraction"] / times["floor"], LIMIT)
    yield Ratio(f"{title}, its memory kept too", times["extraction"] / times["kept floor"], None)


def bare_network(name: str) -> None:
    """Runs floor F1: the network's layers in float32, without heads, maxima and descriptors."""
    network = _network(name)
    with torch.inference_mode():
        for level in _levels():
            x = level
            for layer in network.ops:
                x = layer(x)


def extract(name: str) -> None:
    """Runs the default extraction, the pyramid included."""
    assert len(_extractor(name)(_image())) == SETTINGS.top_k


@cache
def _network(name: str) -> R2D2Network:
    return build_network(NetworkConfig(name, channels=4, dim=128), seed=0).eval()


@cache
def _extractor(name: str) -> Extractor:
    return Extractor(_network(name), SETTINGS)


@cache
def _image() -> Tensor:
    return torch.rand(3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0))


@cache
def _levels() -> list[Tensor]:
    return [level.contiguous() for _, level in pyramid(_image()[None], SETTINGS)]


def _process(threads: int, keep: bool) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), _begin, (threads, keep))


def _begin(threads: int, keep: bool) -> None:
    torch.set_num_threads(threads)
    if keep:
        keep_memory()
