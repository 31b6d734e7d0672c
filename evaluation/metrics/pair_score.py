"""Scores one pair of images once its matches are known."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from evaluation.benchmarks.hpatches import Homography, Split, split_of
from evaluation.metrics.homography import Estimator, corner_error
from evaluation.metrics.matching import Matches
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


@dataclass(frozen=True)
class JudgedPair:
    """A JudgedPair holds the keypoints, the matches and the truth of a pair: all that its score needs.

    Attributes:
        sequence: its name.
        image: k; the pair is (1, k).
        first, second: keypoints of image 1 and of image k, best first, in pixels of the images as judged.
        homography_1to2: (3, 3), between the same pixels.
        matches: (K, 2), indices into both.
        errors: (K,), pixels of image k.
    """

    sequence: str
    image: int
    first: Keypoints
    second: Keypoints
    homography_1to2: Homography
    matches: Matches
    errors: Floats

    def score(self, estimators: tuple[Estimator, ...]) -> PairScore:
        """Computes all metrics of the pair; each estimator estimates a homography."""
        return PairScore(
            sequence=self.sequence,
            split=split_of(self.sequence),
            image=self.image,
            keypoints1=len(self.first),
            keypoints2=len(self.second),
            matches=len(self.matches),
            mma=tuple(mma(self.errors).tolist()),
            coverage1=coverage(self.first.keypoints, self.first.image_size),
            coverage2=coverage(self.second.keypoints, self.second.image_size),
            **self._homographies(estimators),
            **self._places(),
        )

    def _homographies(self, estimators: tuple[Estimator, ...]) -> dict[str, Any]:
        """Corner errors, and how many matches support a robust estimate."""
        found: dict[str, Any] = {}
        for one in estimators:
            estimate = one.estimate(self.first.keypoints, self.second.keypoints, self.matches)
            found[f"corner_error_{one.name}"] = corner_error(
                estimate.homography_1to2, self.homography_1to2, *self.first.image_size
            )
            if estimate.inliers is not None:
                found[f"inliers_{one.name}"] = estimate.inliers
        return found

    def _places(self) -> dict[str, Any]:
        """Whether the same places are found; matched are all keypoints, compared are equally many."""
        first, second = self.first.keypoints, self.second.keypoints
        matched = self._overlap(first, second)
        compared = matched if len(first) == len(second) else self._overlap(*equal_budget(first, second))
        error = localisation_error(compared)
        return {
            "repeatability": tuple(repeatability(compared).tolist()),
            # One NaN for all, so that pairs read back are equal to those written.
            "localisation_error": math.nan if math.isnan(error) else error,
            "matching_score": matching_score(matched, self.matches, self.errors),
        }

    def _overlap(self, keypoints1: Points, keypoints2: Points) -> Overlap:
        sizes = self.first.image_size, self.second.image_size
        return overlap(keypoints1, keypoints2, self.homography_1to2, *sizes)


def _to_json(value: Any) -> Any:
    if isinstance(value, tuple):
        return list(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _number(key: str, value: float | None) -> float:
    return _MISSING[key] if value is None else float(value)
