"""Says whether a network has collapsed: its maps say the same of every pixel.

All similarity losses are satisfied by a flat repeatability map, and a reliability loss may be satisfied by
calling every pixel unreliable. The loss alone does not show it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

# For comparison: 0.26 to 0.28 for trained networks, 0.2 after the first forty steps of a good training,
# 0.03 for an untrained network in training mode (0 in evaluation mode), 0.02 to 0.06 when trained without
# peakiness.
FLAT_STD = 0.05
# Trained networks call nearly every pixel of a photograph reliable: 0.993 on average.
LOW_RELIABILITY, HIGH_RELIABILITY = 0.05, 0.999

# What `training.collapse_signs` measures in each step, and what is read of it here and of a score.
SIGNS = ("repeatability_std", "repeatability_entropy", "flat_maps", "mean_reliability", "reliability_std")
TELLING = ("repeatability_std", "mean_reliability")


@dataclass(frozen=True)
class CollapseSigns:
    """CollapseSigns are two numbers about a network's maps over some images.

    Attributes:
        repeatability_std: standard deviation within a repeatability map, mean over images; 0: flat.
        mean_reliability: in [0, 1]; near 0: nothing is called reliable.
    """

    repeatability_std: float
    mean_reliability: float


def collapse_warnings(metrics: Mapping[str, float]) -> list[str]:
    """Turns metrics into warnings, in plain sentences; returns none if all is well.

    Args:
        metrics: keys like `warning_signs/repeatability_std` of training, or from an evaluator
            `hpatches/repeatability_std`, `hpatches/mean_reliability`, `hpatches/keypoints_at_cap` (share of
            images with as many keypoints as allowed). The part before the last `/`, or `train`, begins the
            sentence. Other metrics are ignored.
    """
    places: dict[str, dict[str, float]] = {}
    for key, value in metrics.items():
        place, _, name = key.replace("warning_signs/", "train/").rpartition("/")
        places.setdefault(place, {})[name] = value
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
