"""Scoring of one pair of images, against one product of their descriptors."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from bench.timing import Ratio, best_times
from evaluation.metrics.matching import mutual_nearest_neighbours
from evaluation.metrics.mma import matching_errors, mma

COUNT, DIM = 5000, 128
LIMIT = 3.0


def scoring(rounds: int) -> Ratio:
    """The time of matching, errors and the shares at 15 thresholds, over floor F2."""
    generator = torch.Generator().manual_seed(0)
    first = F.normalize(torch.randn(COUNT, DIM, generator=generator))
    second = F.normalize(first + 0.1 * torch.randn(COUNT, DIM, generator=generator))
    descriptors1, descriptors2 = first.numpy(), second.numpy()
    keypoints = np.random.default_rng(0).uniform(0, 1000, (COUNT, 3)).astype(np.float32)

    def score() -> None:
        matches = mutual_nearest_neighbours(descriptors1, descriptors2)
        assert mma(matching_errors(keypoints, keypoints, matches, np.eye(3)))[0] > 0

    times = best_times({"floor": lambda: first @ second.T, "score": score}, rounds)
    return Ratio(f"scoring of {COUNT} x {COUNT} / F2", times["score"] / times["floor"], LIMIT)
