"""Looks for signs that a network has collapsed: its maps say the same of every pixel.

All similarity losses are satisfied by a flat repeatability map, and a reliability loss may be satisfied by
calling every pixel unreliable. The loss alone does not show it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from r2d2.containers import DenseFeatures

# For comparison: 0.26 to 0.28 for trained networks, 0.2 after the first forty steps of a good training,
# 0.03 for an untrained network in training mode (0 in evaluation mode), 0.02 to 0.06 when trained without
# peakiness.
FLAT_STD = 0.05
# Trained networks call nearly every pixel of a photograph reliable: 0.993 on average.
LOW_RELIABILITY, HIGH_RELIABILITY = 0.05, 0.999

_ENTROPY_BINS = 64


def collapse_signs(*features: DenseFeatures) -> dict[str, float]:
    """Looks for signs of a collapse in the maps of some images; see `collapse_tensors`."""
    signs = collapse_tensors(*features)
    return dict(zip(signs, torch.stack(list(signs.values())).tolist(), strict=True))


@torch.no_grad()
def collapse_tensors(*features: DenseFeatures) -> dict[str, Tensor]:
    """Measures signs of a collapse in the maps of some images, as scalars on the maps' device.

    Returns:
        `collapse_repeatability_std`: standard deviation over the pixels of an image, mean over images;
        `collapse_repeatability_entropy`: entropy of the histogram of an image's values, 64 bins over [0, 1],
        divided by log 64: 0 if all pixels are in one bin, 1 if all bins are equally full; mean over images;
        `collapse_flat_maps`: share of images whose repeatability has a standard deviation below FLAT_STD;
        `collapse_mean_reliability`: over all pixels;
        `collapse_reliability_std`: standard deviation over the pixels of an image, mean over images.
    """
    repeatability = torch.cat([f.repeatability.flatten(1) for f in features])
    reliability = torch.cat([f.reliability.flatten(1) for f in features])
    deviation = repeatability.std(dim=1, correction=0)
    return {
        "collapse_repeatability_std": deviation.mean(),
        "collapse_repeatability_entropy": histogram_entropy(repeatability).mean(),
        "collapse_flat_maps": (deviation < FLAT_STD).to(deviation.dtype).mean(),
        "collapse_mean_reliability": reliability.mean(),
        "collapse_reliability_std": reliability.std(dim=1, correction=0).mean(),
    }


def histogram_entropy(values: Tensor, bins: int = _ENTROPY_BINS) -> Tensor:
    """Computes the entropy of the histogram of each row of values (M, P), over log(bins): (M,), in [0, 1]."""
    place = (values * bins).long().clamp_(0, bins - 1)
    counts = values.new_zeros(values.shape[0], bins)
    counts.scatter_add_(1, place, torch.ones_like(values))
    entropy: Tensor = torch.special.entr(counts / values.shape[1]).sum(dim=1)
    return entropy / math.log(bins)


def collapse_warnings(metrics: Mapping[str, float]) -> list[str]:
    """Turns metrics into warnings, in plain sentences; returns none if all is well.

    Args:
        metrics: keys like `warning_signs/repeatability_std` of training (once `train/collapse_...`), or from
            an evaluator `hpatches/repeatability_std`, `hpatches/mean_reliability`,
            `hpatches/keypoints_at_cap` (share of images with as many keypoints as allowed). The part before
            the last `/`, or `train`, begins the sentence. Other metrics are ignored.
    """
    places: dict[str, dict[str, float]] = {}
    for key, value in metrics.items():
        place, _, name = key.replace("warning_signs/", "train/").rpartition("/")
        places.setdefault(place, {})[name.removeprefix("collapse_")] = value
    return [
        f"{place}: {sentence}" if place else sentence
        for place, values in places.items()
        for sentence in _warnings(values)
    ]


def _warnings(values: Mapping[str, float]) -> list[str]:
    found = []
    deviation, reliability = values.get("repeatability_std"), values.get("mean_reliability")
    if deviation is not None and not deviation >= FLAT_STD:
        sentence = f"the repeatability map is flat: standard deviation {deviation:.3g}, below {FLAT_STD:g}"
        # Good detectors reach the cap too, in images rich in detail: alone it is no sign.
        at_cap = values.get("keypoints_at_cap", 0.0) >= 1
        found.append(sentence + (", and every image has as many keypoints as allowed" if at_cap else ""))
    if reliability is not None and not reliability >= LOW_RELIABILITY:
        found.append(
            f"few pixels are called reliable: mean reliability {reliability:.3g}, below {LOW_RELIABILITY:g}"
        )
    if reliability is not None and reliability > HIGH_RELIABILITY:
        found.append(
            f"every pixel is called reliable: mean reliability {reliability:.5g}, above {HIGH_RELIABILITY:g}"
        )
    return found
