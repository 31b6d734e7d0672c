"""Measures signs of a collapse in the maps of a network; `r2d2.collapse` says what they mean."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from r2d2.collapse import FLAT_STD
from r2d2.containers import DenseFeatures

_ENTROPY_BINS = 64


@torch.no_grad()
def measure_signs(*features: DenseFeatures) -> dict[str, Tensor]:
    """Measures signs of a collapse in the maps of some images, as scalars on the maps' device.

    Returns:
        `repeatability_std`: standard deviation over the pixels of an image, mean over images;
        `repeatability_entropy`: entropy of the histogram of an image's values, 64 bins over [0, 1],
        divided by log 64: 0 if all pixels are in one bin, 1 if all bins are equally full; mean over images;
        `flat_maps`: share of images whose repeatability has a standard deviation below FLAT_STD;
        `mean_reliability`: over all pixels;
        `reliability_std`: standard deviation over the pixels of an image, mean over images.
    """
    repeatability = torch.cat([f.repeatability.flatten(1) for f in features])
    reliability = torch.cat([f.reliability.flatten(1) for f in features])
    deviation = repeatability.std(dim=1, correction=0)
    return {
        "repeatability_std": deviation.mean(),
        "repeatability_entropy": histogram_entropy(repeatability).mean(),
        "flat_maps": (deviation < FLAT_STD).to(deviation.dtype).mean(),
        "mean_reliability": reliability.mean(),
        "reliability_std": reliability.std(dim=1, correction=0).mean(),
    }


def histogram_entropy(values: Tensor, bins: int = _ENTROPY_BINS) -> Tensor:
    """Computes the entropy of the histogram of each row of values (M, P), over log(bins): (M,), in [0, 1]."""
    place = (values * bins).long().clamp_(0, bins - 1)
    counts = values.new_zeros(values.shape[0], bins)
    counts.scatter_add_(1, place, torch.ones_like(values))
    entropy: Tensor = torch.special.entr(counts / values.shape[1]).sum(dim=1)
    return entropy / math.log(bins)
