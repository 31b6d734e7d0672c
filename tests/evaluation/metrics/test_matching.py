import subprocess
import sys

import numpy as np
import pytest
import torch

from evaluation.metrics import matching
from evaluation.metrics.matching import mutual_nearest_neighbours


def unit(count: int, dim: int = 16, seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def naive(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    products = first.astype(np.float64) @ second.T.astype(np.float64)
    forward, backward = products.argmax(axis=1), products.argmax(axis=0)
    return np.array([(i, j) for i, j in enumerate(forward) if backward[j] == i])


def test_reference_pair(golden):
    pair = golden("matching")
    matches = mutual_nearest_neighbours(pair["descriptors1"], pair["descriptors2"])
    assert matches.dtype == np.int64
    np.testing.assert_array_equal(matches, pair["matches"][np.argsort(pair["matches"][:, 0])])


@pytest.mark.parametrize(("count1", "count2"), [(1, 1), (1, 50), (50, 1), (300, 211), (1300, 700)])
def test_equal_to_the_definition(count1, count2):
    first, second = unit(count1), unit(count2, seed=1)
    np.testing.assert_array_equal(mutual_nearest_neighbours(first, second), naive(first, second))


@pytest.mark.parametrize("rows", [1, 7, 299, 300, 1000])
def test_the_size_of_a_block_changes_nothing(monkeypatch, rows):
    first, second = unit(300), unit(200, seed=1)
    monkeypatch.setattr(matching, "BLOCK_ROWS", rows)
    np.testing.assert_array_equal(mutual_nearest_neighbours(first, second), naive(first, second))


@pytest.mark.parametrize("rows", [1, 2, 512])
def test_of_equal_descriptors_the_first_are_matched(monkeypatch, rows):
    monkeypatch.setattr(matching, "BLOCK_ROWS", rows)
    axes = np.eye(4, dtype=np.float32)
    matches = mutual_nearest_neighbours(axes[[3, 0, 0, 1]], axes[[0, 1, 1, 0, 2]])
    assert matches.tolist() == [[1, 0], [3, 1]]


@pytest.mark.parametrize(("count1", "count2"), [(0, 5), (5, 0), (0, 0)])
def test_nothing_matches_nothing(count1, count2):
    assert mutual_nearest_neighbours(unit(5)[:count1], unit(5)[:count2]).shape == (0, 2)


def test_takes_tensors_and_read_only_arrays():
    first, second = unit(30), unit(40, seed=1)
    expected = mutual_nearest_neighbours(first, second)
    first.flags.writeable = False
    np.testing.assert_array_equal(mutual_nearest_neighbours(first, torch.from_numpy(second)), expected)


def test_shapes_that_do_not_fit():
    with pytest.raises(ValueError, match=r"\(5, 16\) and \(5, 8\)"):
        mutual_nearest_neighbours(unit(5), unit(5, dim=8))


@pytest.mark.gpu
def test_on_a_gpu():
    first, second = unit(300), unit(200, seed=1)
    matches = mutual_nearest_neighbours(first, second, torch.device("cuda"))
    np.testing.assert_array_equal(matches, naive(first, second))


MEMORY = """
import resource, sys
import torch
from evaluation.metrics.matching import mutual_nearest_neighbours
torch.set_num_threads(1)
count = int(sys.argv[1])
first, second = torch.randn(count, 16), torch.randn(count, 16)
mutual_nearest_neighbours(first[:600], second[:600])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert len(mutual_nearest_neighbours(first, second))
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


def test_memory_stays_bounded():
    # 20,000 x 20,000 dot products at once would be 1,526 MiB.
    answer = subprocess.run(
        [sys.executable, "-c", MEMORY, "20000"], capture_output=True, text=True, check=True
    )
    assert float(answer.stdout) < 256
