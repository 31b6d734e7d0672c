"""A collapse is noticed, and said in plain words."""

from __future__ import annotations

import pytest
import torch

from r2d2.collapse import SIGNS, collapse_warnings
from r2d2.containers import DenseFeatures
from r2d2.training.collapse_signs import histogram_entropy, measure_signs


def features(repeatability, reliability):
    return DenseFeatures(torch.zeros(*repeatability.shape[:1], 4, 8, 8), reliability, repeatability)


def flat(value, images=2):
    return torch.full((images, 1, 8, 8), value)


def halves(low, high, images=2):
    return torch.tensor([low, high]).repeat_interleave(32).view(1, 1, 8, 8).expand(images, -1, -1, -1)


def test_signs_of_a_flat_map():
    signs = measure_signs(features(flat(0.735), flat(0.5)), features(flat(0.2), flat(0.7)))
    assert signs == pytest.approx(
        {
            "repeatability_std": 0,
            "repeatability_entropy": 0,
            "flat_maps": 1,
            "mean_reliability": 0.6,
            "reliability_std": 0,
        },
        abs=1e-6,
    )


def test_signs_of_a_map_with_contrast_in_one_image_of_two():
    signs = measure_signs(
        features(flat(0.5, 1), flat(0.5, 1)), features(halves(0.1, 0.7, 1), halves(0.8, 1.0, 1))
    )
    assert signs["repeatability_std"] == pytest.approx(0.3 / 2)
    assert signs["repeatability_entropy"] == pytest.approx(1 / 6 / 2)  # one bit of six
    assert signs["flat_maps"] == 0.5
    assert signs["mean_reliability"] == pytest.approx(0.7)
    assert signs["reliability_std"] == pytest.approx(0.1 / 2)


def test_entropy_goes_from_one_bin_to_all_bins():
    everything = (torch.arange(64) + 0.5) / 64
    rows = torch.stack([torch.full((64,), 0.3), everything, torch.ones(64), torch.zeros(64)])
    assert histogram_entropy(rows).tolist() == pytest.approx([0, 1, 0, 0])


def test_a_healthy_network_is_not_warned_of():
    metrics = {"warning_signs/repeatability_std": 0.27, "warning_signs/mean_reliability": 0.993}
    assert collapse_warnings(metrics | {"hpatches/keypoints_at_cap": 1.0, "validation/mma_3px": 0.0}) == []


@pytest.mark.parametrize(
    ("metrics", "warning"),
    [
        (
            {"warning_signs/repeatability_std": 0.002},
            "train: the repeatability map is flat: standard deviation 0.002, below 0.05",
        ),
        (
            {"hpatches/repeatability_std": 0.004, "hpatches/keypoints_at_cap": 1.0},
            "hpatches: the repeatability map is flat: standard deviation 0.004, below 0.05, "
            "and every image has as many keypoints as allowed",
        ),
        (
            {"repeatability_std": float("nan")},
            "the repeatability map is flat: standard deviation nan, below 0.05",
        ),
        (
            {"warning_signs/mean_reliability": 0.013},
            "train: few pixels are called reliable: mean reliability 0.013, below 0.05",
        ),
        (
            {"validation/mean_reliability": 0.99991},
            "validation: every pixel is called reliable: mean reliability 0.99991, above 0.999",
        ),
    ],
)
def test_a_collapse_is_said_in_one_sentence(metrics, warning):
    assert collapse_warnings(metrics) == [warning]


def test_what_is_measured_is_understood():
    signs = measure_signs(features(flat(0.735), flat(0.0)))
    assert tuple(signs) == SIGNS
    assert len(collapse_warnings({f"train/{name}": value for name, value in signs.items()})) == 2
