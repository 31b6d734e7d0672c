"""Measures what a checkpoint's score is made of: extraction, matching, and a whole benchmark."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from bench.gpu.clock import call_times, each, forget_peak, peak_gib
from bench.gpu.setup import NETWORKS, Figure, Setup
from evaluation.benchmarks.hpatches import Benchmark, open_benchmark
from evaluation.benchmarks.validation import build_validation_benchmark
from evaluation.evaluation import Evaluation
from evaluation.evaluator import evaluate
from evaluation.metrics.homography import DLT
from evaluation.metrics.matching import mutual_nearest_neighbours
from evaluation.protocols import PROTOCOLS, Protocol
from r2d2.checkpoint import Model
from r2d2.data.photos import PhotoSet
from r2d2.extraction.keypoints import Extractor, arithmetic
from r2d2.extraction.settings import FASTEST, ExtractionSettings
from r2d2.network import R2D2Network, build_network

# Up to so many descriptors the matches are compared with those of the CPU.
COMPARED = 5000
ASPECT = 3 / 4
# The network as it is, in float32; other precisions have its normalisations folded.
EXACT = "exact"


def extraction(setup: Setup) -> Iterator[Figure]:
    """Yields images a second of untrained networks without thresholds, which find as many as trained ones."""

    def measure(network: str, side: int, precision: str) -> Figure:
        settings = ExtractionSettings(
            min_reliability=0.0,
            min_repeatability=0.0,
            max_size=side,
            min_size=side // 4,
            exact=precision == EXACT,
            precision=FASTEST if precision == EXACT else precision,
        )
        height = round(side * ASPECT)
        image = torch.rand(3, height, side, generator=torch.Generator().manual_seed(0))
        config = setup.config(network).network
        extract = Extractor(build_network(config, seed=0).to(setup.device).eval(), settings)
        forget_peak(setup.device)
        times = call_times(lambda: extract(image), setup.device, setup.scale.seconds)
        return {
            "size": f"{side}x{height}",
            "computed_in": arithmetic(settings, setup.device),
            "images_per_s": round(1e3 / times["median_ms"], 2),
            **times,
            "peak_gib": peak_gib(setup.device),
        }

    yield from each(
        (
            {"network": network, "side": side, "precision": precision}
            for network in NETWORKS
            for side in setup.scale.image_sides
            for precision in (EXACT, "float32", FASTEST)
        ),
        measure,
    )


def matching(setup: Setup) -> Iterator[Figure]:
    """Yields milliseconds of matching random descriptors, and whether the CPU finds the same matches."""

    def measure(descriptors: int) -> Figure:
        generator = torch.Generator().manual_seed(0)
        size = (2, descriptors, setup.scale.dim)
        first, second = F.normalize(torch.randn(size, generator=generator), dim=2).numpy()
        times = call_times(
            lambda: mutual_nearest_neighbours(first, second, setup.device), setup.device, setup.scale.seconds
        )
        if descriptors > COMPARED:
            return times
        here, there = (mutual_nearest_neighbours(first, second, d) for d in (None, setup.device))
        return {**times, "good": bool(np.array_equal(here, there))}

    yield from each(({"descriptors": count} for count in setup.scale.descriptors), measure)


def checkpoint_score(setup: Setup) -> Iterator[Figure]:
    """Yields the seconds of scoring an untrained network on the benchmark, first call left out."""
    _, held_out = setup.split_photos() if setup.sequences is None else (None, None)
    with benchmark_of(setup, held_out) as benchmark:

        def measure(network: str) -> Figure:
            built = build_network(setup.config(network).network, seed=0).eval()
            for _ in range(2):
                found = score(built, benchmark, setup)
            return timings(found)

        yield from each(({"network": network} for network in NETWORKS), measure)


@contextmanager
def benchmark_of(setup: Setup, held_out: PhotoSet | None) -> Iterator[Benchmark]:
    """Opens the given sequences, or makes a validation benchmark of held-out photographs.

    Raises:
        ValueError: if the folder holds no sequences, or no photograph can be used.
    """
    if setup.sequences is not None:
        yield open_benchmark(setup.sequences)
        return
    assert held_out is not None
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder, "validation")
        yield open_benchmark(build_validation_benchmark(held_out, made, size=setup.scale.benchmark_size))


def score(network: R2D2Network, benchmark: Benchmark, setup: Setup) -> Evaluation:
    """Scores a network, moved to the device, by the protocol of its benchmark without PoseLib."""
    network.to(setup.device)
    return evaluate(Model(network, "measured", "none", None, None), benchmark, protocol_of(setup))


def timings(found: Evaluation) -> Figure:
    """Says where the seconds of a score went."""
    times = found.timings
    images = len({pair.sequence for pair in found.pairs}) + len(found.pairs)
    return {
        "benchmark": found.benchmark,
        "protocol": found.protocol.name,
        "images": images,
        "pairs": len(found.pairs),
        "score_s": round(times.extraction + times.matching + times.metrics, 2),
        "extraction_ms_per_image": round(1e3 * times.extraction / images, 2),
        "matching_ms_per_pair": round(1e3 * times.matching / len(found.pairs), 2),
        "metrics_ms_per_pair": round(1e3 * times.metrics / len(found.pairs), 2),
    }


def protocol_of(setup: Setup) -> Protocol:
    """Returns the validation benchmark's, or for given sequences d2net without PoseLib, with the same MMA."""
    if setup.sequences is None:
        return PROTOCOLS["validation"]
    return replace(PROTOCOLS["d2net"], name="d2net without PoseLib", estimators=(DLT,))
