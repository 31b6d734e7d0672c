"""Scores one pair of images once its matches are known."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from evaluation.benchmarks.hpatches import Homography, Split, split_of
from evaluation.metrics.homography import Estimator, corner_error
from evaluation.metrics.mma import THRESHOLDS, mma
from evaluation.metrics.repeatability import (
    Overlap,
    Points,
    coverage,
    equal_budget,
    localisation_error,
    matching_score,
    overlap,
    repeatability,
)

if TYPE_CHECKING:
    from evaluation.metrics.matching import IndexPairs
    from r2d2.containers import Keypoints

Floats = npt.NDArray[np.float64]

# Numbers that may be missing: they are null in JSON, which has neither infinity nor NaN.
_MISSING = {"corner_error_dlt": math.inf, "corner_error_poselib": math.inf, "localisation_error": math.nan}


@dataclass(frozen=True)
class PairScore:
    """A PairScore holds the figures of one pair (1, k). What is None was not computed.

    Attributes:
        sequence: its name.
        split: of the sequence.
        image: k, 2 to 6.
        keypoints1, keypoints2: how many were found in image 1 and in image k.
        matches: how many mutual nearest neighbours.
        mma: 15 shares of the matches with an error of at most 1 to 15 pixels.
        corner_error_dlt, corner_error_poselib: of the estimated homographies, pixels of image k; infinite if
            there is none.
        inliers_poselib: how many matches support the robust homography, 0 if there is none.
        repeatability: two shares, at 1 and 3 pixels, of equally many keypoints.
        localisation_error: pixels; NaN if no keypoint was found again.
        matching_score: share of the keypoints in the shared area that are matched correctly.
        coverage1, coverage2: shares of the two images with keypoints.
    """

    sequence: str
    split: Split | None
    image: int
    keypoints1: int
    keypoints2: int
    matches: int
    mma: tuple[float, ...]
    corner_error_dlt: float | None = None
    corner_error_poselib: float | None = None
    repeatability: tuple[float, ...] | None = None
    localisation_error: float | None = None
    matching_score: float | None = None
    coverage1: float | None = None
    coverage2: float | None = None
    inliers_poselib: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Returns what `json.dumps` takes, without what was not computed; infinity and NaN become null.

        The split is left out: it follows from the sequence's name.
        """
        values = {key: value for key, value in asdict(self).items() if value is not None and key != "split"}
        return {key: _to_json(value) for key, value in values.items()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> PairScore:
        """Reads what `to_json` returned, or an earlier version that knew fewer numbers.

        Raises:
            ValueError: if there are not 15 shares.
        """
        counts: dict[str, Any] = {key: int(values[key]) for key in _COUNTS}
        shares = tuple(float(share) for share in values["mma"])
        if len(shares) != len(THRESHOLDS):
            raise ValueError(f"a pair has {len(shares)} shares; it must have {len(THRESHOLDS)}")
        found: dict[str, Any] = {key: _number(key, values[key]) for key in _NUMBERS if key in values}
        if "inliers_poselib" in values:
            found["inliers_poselib"] = int(values["inliers_poselib"])
        if "repeatability" in values:
            found["repeatability"] = tuple(float(share) for share in values["repeatability"])
        sequence = str(values["sequence"])
        return cls(sequence, split_of(sequence), mma=shares, **counts, **found)


_COUNTS = ("image", "keypoints1", "keypoints2", "matches")
_NUMBERS = (*_MISSING, "matching_score", "coverage1", "coverage2")


def score_pair(
    name: str,
    image: int,
    keypoints: tuple[Keypoints, Keypoints],
    homography_1to2: Homography,
    matches: IndexPairs,
    errors: Floats,
    estimators: tuple[Estimator, ...],
) -> PairScore:
    """Computes all metrics of the pair (1, image) of a sequence.

    Args:
        name: of the sequence.
        image: k; the pair is (1, k).
        keypoints: of image 1 and of image k, best first, in pixels of the images as scored.
        homography_1to2: (3, 3), between the same pixels.
        matches: (K, 2), indices into both.
        errors: (K,), pixels of image k.
        estimators: each estimates a homography.
    """
    first, second = keypoints
    corners: dict[str, Any] = {}
    for one in estimators:
        found = one.estimate(first.keypoints, second.keypoints, matches)
        error = corner_error(found.homography_1to2, homography_1to2, *first.image_size)
        corners[f"corner_error_{one.name}"] = error
        if found.inliers is not None:
            corners[f"inliers_{one.name}"] = found.inliers

    def overlap_of(points1: Points, points2: Points) -> Overlap:
        return overlap(points1, points2, homography_1to2, first.image_size, second.image_size)

    # Matched are all keypoints, compared are equally many.
    matched = compared = overlap_of(first.keypoints, second.keypoints)
    if len(first) != len(second):
        compared = overlap_of(*equal_budget(first.keypoints, second.keypoints))
    localisation = localisation_error(compared)
    return PairScore(
        sequence=name,
        split=split_of(name),
        image=image,
        keypoints1=len(first),
        keypoints2=len(second),
        matches=len(matches),
        mma=tuple(mma(errors).tolist()),
        repeatability=tuple(repeatability(compared).tolist()),
        # One NaN for all, so that pairs read back are equal to those written.
        localisation_error=math.nan if math.isnan(localisation) else localisation,
        matching_score=matching_score(matched, matches, errors),
        coverage1=coverage(first.keypoints, first.image_size),
        coverage2=coverage(second.keypoints, second.image_size),
        **corners,
    )


def _to_json(value: Any) -> Any:
    if isinstance(value, tuple):
        return list(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _number(key: str, value: float | None) -> float:
    return _MISSING[key] if value is None else float(value)
