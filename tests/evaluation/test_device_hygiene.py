"""Scoring on a GPU waits for what leaves it, once a kind, and gives the scores of a CPU."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from pretended_gpu import GPU, PretendedGpu

from evaluation.benchmarks.hpatches import open_benchmark
from evaluation.evaluator import evaluate
from evaluation.metrics import matching
from evaluation.metrics.matching import mutual_nearest_neighbours
from evaluation.protocols import Protocol
from r2d2.extraction.settings import ExtractionSettings


@pytest.fixture(autouse=True)
def _whole_operations(monkeypatch):
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
    monkeypatch.setattr(torch, "inference_mode", lambda mode=True: torch.no_grad() if mode else nullcontext())


def random_descriptors(count, seed):
    """Whole numbers, whose products are exact in whatever blocks they are computed."""
    return np.random.default_rng(seed).integers(-2, 3, (count, 16)).astype(np.float32)


@pytest.mark.parametrize("share", [64, 2**22])
def test_matching_waits_for_its_result_alone_in_one_block_or_in_many(monkeypatch, share):
    monkeypatch.setattr(matching, "MEMORY_SHARE", share)
    first, second = random_descriptors(900, 0), random_descriptors(1100, 1)
    with PretendedGpu() as gpu:
        found = mutual_nearest_neighbours(first, second, GPU)
    np.testing.assert_array_equal(found, mutual_nearest_neighbours(first, second))
    assert gpu.unexpected() == []
    assert gpu.of("waits") == 1
    assert (gpu.launches.total() > 100) == (share > 64)


def test_a_score_waits_for_keypoints_matches_and_signs_alone(patch_model, write_sequence, texture, tmp_path):
    write_sequence("v_shifted", texture(), texture(dx=2))
    # One level, so that the positions of the hand-made features are exact.
    settings = ExtractionSettings(min_scale=1.0, min_size=0, min_repeatability=0.1, precision="float32")
    protocol, benchmark = Protocol("one scale", settings, estimators=()), open_benchmark(tmp_path / "bench")
    expected = evaluate(patch_model, benchmark, protocol)
    with PretendedGpu() as gpu:
        patch_model.network.to(GPU)
        gpu.forget()
        found = evaluate(patch_model, benchmark, protocol)
    assert gpu.unexpected() == []
    # Of six images a level and three arrays, of five pairs the matches, of one image the signs of collapse.
    assert gpu.of("waits") == 6 * (1 + 3) + 5 + 1
    assert found.scalars() == pytest.approx(expected.scalars(), rel=1e-4, nan_ok=True)
