"""The fast extraction scores like the exact one, on real sequences, with and without 16-bit arithmetic.

What is exact is read from the reference, whose figures an exact extraction repeats (`test_evaluator`):
extracting all over again in float32 would take longer than the rest. One part is one sequence; what the parts
of a network found is remembered for the test of all of them together.
"""

import functools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.overrides import TorchFunctionMode

from evaluation.benchmarks.hpatches import open_benchmark
from evaluation.metrics.matching import mutual_nearest_neighbours
from evaluation.metrics.mma import matching_errors, mma
from evaluation.protocols import PROTOCOLS
from r2d2.checkpoint import load_model
from r2d2.data.images import read_image
from r2d2.data.normalisation import normalise
from r2d2.extraction.inference import FastNetwork
from r2d2.extraction.keypoints import Extractor
from r2d2.network import build_network
from r2d2.network_config import NetworkConfig

REFERENCE = json.loads((Path(__file__).parent.parent / "golden" / "hpatches_reference.json").read_text())
SEQUENCES = ("i_leuven", "v_churchill", "v_graffiti")

# Products whose sums a processor with 16-bit arithmetic keeps in float32 and rounds once, at their end.
PRODUCTS = {"conv2d", "linear", "matmul", "bmm", "mm", "addmm", "baddbmm"}


class EmulatedBfloat16(TorchFunctionMode):
    """Sums products of bfloat16 in float32, fast on a processor that has no arithmetic for them."""

    def __torch_function__(self, function, types, args=(), kwargs=None):

        if getattr(function, "__name__", "") in PRODUCTS and args[0].dtype is torch.bfloat16:
            wide = [x.float() if isinstance(x, torch.Tensor) else x for x in args]
            return function(*wide, **(kwargs or {})).bfloat16()
        return function(*args, **(kwargs or {}))


@functools.cache
def differences(shared, name, sequence, precision):
    """MMA at 1 to 15 pixels of the five pairs of a sequence less the exact ones: (5, 15)."""
    network = load_model(shared / "weights" / f"{name}.pt").network
    benchmark = {one.name: one for one in open_benchmark(shared / "data" / "hpatches").sequences}[sequence]
    settings = replace(PROTOCOLS["d2net"].extraction, precision=str(precision).removeprefix("torch."))
    with EmulatedBfloat16():
        extract = Extractor(network, settings)
        first, *others = (extract(normalise(read_image(path))) for path in benchmark.images)
    found = [
        mma(
            matching_errors(
                first.keypoints,
                other.keypoints,
                mutual_nearest_neighbours(first.descriptors, other.descriptors),
                homography,
            )
        )
        for other, homography in zip(others, benchmark.homographies, strict=True)
    ]
    exact = np.array([pair["mma"] for pair in REFERENCE[name][sequence]])
    assert exact.mean(axis=0)[2] > 0.5
    return np.array(found) - exact


def real_size(test):
    """Of every released network, in either arithmetic."""
    networks = pytest.mark.parametrize("name", ["faster2d2_WASF_N16", "study_dice", "r2d2_WASF_N16"])
    precisions = pytest.mark.parametrize(
        "precision", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"]
    )
    return pytest.mark.real_size(pytest.mark.timeout(1200)(networks(precisions(test))))


@real_size
@pytest.mark.parametrize("sequence", SEQUENCES)
def test_matching_accuracy_of_a_sequence_is_nearly_that_of_the_exact_path(shared, name, precision, sequence):
    found = differences(shared, name, sequence, precision)
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=0.001 if precision is torch.float32 else 0.006)


@real_size
def test_matching_accuracy_is_that_of_the_exact_path(shared, name, precision):
    found = np.concatenate([differences(shared, name, sequence, precision) for sequence in SEQUENCES])
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=0.003)


@pytest.mark.parametrize("name", ["fast", "quad"])
def test_emulated_arithmetic_is_that_of_the_library(name):
    network = build_network(NetworkConfig(name, channels=2, dim=16), seed=0).eval()
    image = torch.randn(1, 3, 40, 48, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        exact = FastNetwork(network, torch.float32)(image)
        native = FastNetwork(network, torch.bfloat16)(image)
        with EmulatedBfloat16():
            emulated = FastNetwork(network, torch.bfloat16)(image)

    def distance(one, other):
        return float((one.repeatability - other.repeatability).abs().max())

    assert distance(native, exact) > 0
    # The library adds its products in another order, so that some of them are rounded to the neighbour.
    assert distance(emulated, native) < 0.5 * distance(native, exact)
