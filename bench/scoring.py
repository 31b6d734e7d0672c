"""Times scoring: a pair of images over a product of their descriptors, and two evaluators over one."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
import torch.nn.functional as F

from bench.timing import Ratio, best_times
from evaluation.actor import BenchmarkSpec, EvaluatorResources, start_pool
from evaluation.benchmarks.validation import build_validation_benchmark
from evaluation.metrics.matching import mutual_nearest_neighbours
from evaluation.metrics.mma import matching_errors, mma
from r2d2.checkpoint import save_checkpoint
from r2d2.config import TrainConfig
from r2d2.data.photos import open_photos, split
from r2d2.network import build_network

COUNT, DIM, CHECKPOINTS = 5000, 128, 4
SCORING_LIMIT, POOL_LIMIT = 3.0, 1 / 1.7


def scoring(rounds: int) -> Ratio:
    """Measures matching, errors and the shares at 15 thresholds, over floor F2."""
    generator = torch.Generator().manual_seed(0)
    first = F.normalize(torch.randn(COUNT, DIM, generator=generator))
    second = F.normalize(first + 0.1 * torch.randn(COUNT, DIM, generator=generator))
    descriptors1, descriptors2 = first.numpy(), second.numpy()
    keypoints = np.random.default_rng(0).uniform(0, 1000, (COUNT, 3)).astype(np.float32)

    def score() -> None:
        matches = mutual_nearest_neighbours(descriptors1, descriptors2)
        assert mma(matching_errors(keypoints, keypoints, matches, np.eye(3)))[0] > 0

    times = best_times({"floor": lambda: first @ second.T, "score": score}, rounds)
    return Ratio(f"scoring of {COUNT} x {COUNT} / F2", times["score"] / times["floor"], SCORING_LIMIT)


def pool(rounds: int) -> Ratio:
    """Measures two evaluators over one; each has one CPU and one thread."""
    # Three, though two compute at a time: the single evaluator of the other pool waits meanwhile.
    ray.init("local", num_cpus=3, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    try:
        with tempfile.TemporaryDirectory() as folder:
            checkpoint, spec = _checkpoint(Path(folder, "checkpoint")), _benchmark(Path(folder, "benchmark"))
            one, two = (start_pool((spec,), EvaluatorResources(number, num_cpus=1)) for number in (1, 2))
            times = best_times({"one": _scoring(one, checkpoint), "two": _scoring(two, checkpoint)}, rounds)
    finally:
        ray.shutdown()
    return Ratio("two evaluators / one evaluator", times["two"] / times["one"], POOL_LIMIT)


def _scoring(evaluators: Any, checkpoint: str) -> Callable[[], object]:
    return lambda: ray.get([evaluators.score.remote(checkpoint, "validation") for _ in range(CHECKPOINTS)])


def _checkpoint(folder: Path) -> str:
    config = TrainConfig.from_dict({"network": {"name": "fast", "channels": 1, "dim": 16}})
    save_checkpoint(folder, build_network(config.network, seed=0), config, epoch=1)
    return str(folder)


def _benchmark(folder: Path) -> BenchmarkSpec:
    _, held_out = split(open_photos("samples"), 1, 0)
    return BenchmarkSpec("validation", str(build_validation_benchmark(held_out, folder)), "validation")
