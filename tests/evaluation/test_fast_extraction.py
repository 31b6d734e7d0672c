"""The fast extraction scores like the exact one, on real sequences."""

import dataclasses

import numpy as np
import pytest

from evaluation.hpatches import open_benchmark
from evaluation.matching import mutual_nearest_neighbours
from evaluation.mma import matching_errors, mma
from evaluation.protocols import PROTOCOLS
from r2d2.checkpoint import load_model
from r2d2.data.images import normalise, read_image
from r2d2.keypoints import Extractor


def shares(network, benchmark, settings):
    """MMA at 1 to 15 pixels over all pairs of a benchmark."""
    extract, found = Extractor(network, settings), []
    for sequence in benchmark.sequences:
        first, *others = (extract(normalise(read_image(path))) for path in sequence.images)
        for other, homography in zip(others, sequence.homographies, strict=True):
            matches = mutual_nearest_neighbours(first.descriptors, other.descriptors)
            found.append(mma(matching_errors(first.keypoints, other.keypoints, matches, homography)))
    return np.mean(found, axis=0)


@pytest.mark.real_size
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", ["r2d2_WASF_N16", "faster2d2_WASF_N16", "study_dice"])
def test_matching_accuracy_is_that_of_the_exact_path(shared, name):
    network = load_model(shared / "weights" / f"{name}.pt").network
    benchmark = open_benchmark(shared / "data" / "hpatches")
    settings = PROTOCOLS["d2net"].extraction
    fast, exact = (
        shares(network, benchmark, dataclasses.replace(settings, exact=value)) for value in (False, True)
    )
    assert exact[2] > 0.5
    np.testing.assert_allclose(fast, exact, atol=0.003, rtol=0)
