"""Measures homography accuracy: how well matches predict where the corners of image 1 lie in image 2.

MHA (mean homography accuracy) is the share of pairs whose corners are found within some pixels (DeTone et
al., SuperPoint, CVPRW 2018); AUC is the area under the curve of those shares (Sarlin et al., SuperGlue, CVPR
2020). Pixels are those of the images that keypoints and homography speak of, after a resize those of the
resized images. A number depends on the estimator and, for the robust one, on its threshold: state both.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt

from r2d2.geometry import apply_homography, frame_corners, scaling, translation

Floats = npt.NDArray[np.float64]
Points = npt.NDArray[np.floating]

# Pixels of image 2.
THRESHOLDS = (1, 3, 5)

ESTIMATORS = ("dlt", "poselib")

# Pixels of image 2 up to which a match supports a robust estimate: glue-factory's default for HPatches.
ROBUST_THRESHOLD = 1.0

# PoseLib's own defaults, written down so that another version of it does the same.
_SAMPLING = {
    "max_iterations": 100_000,
    "min_iterations": 1_000,
    "dyn_num_trials_mult": 3.0,
    "success_prob": 0.9999,
}

# Ratio of singular values. Points off a common line by a millionth of their extent are on it: that is the
# rounding of float32, and a thousandth of a pixel at most.
_DEGENERATE = 1e-6


@dataclass(frozen=True)
class EstimatedHomography:
    """An EstimatedHomography is the homography that an estimator found for a pair, if it found one.

    Attributes:
        homography_1to2: (3, 3), Frobenius norm 1; None if the matches do not determine one.
        inliers: how many matches support it, 0 without one; None where all matches count.
    """

    homography_1to2: Floats | None
    inliers: int | None = None


@dataclass(frozen=True)
class Estimator:
    """An Estimator says how a homography is estimated from the matches of a pair.

    Attributes:
        name: `dlt`, see `homography_dlt`, or `poselib`, see `robust_estimate`.
        threshold: pixels of image 2 up to which a match supports an estimate; None for `dlt`.
        seed: of the random draws; None for `dlt`.
    """

    name: str
    threshold: float | None = None
    seed: int | None = None

    def __post_init__(self) -> None:
        if self.name not in ESTIMATORS:
            raise ValueError(f"unknown estimator '{self.name}'; known: {', '.join(ESTIMATORS)}")
        if (self.name == "dlt") != (self.threshold is None) or (self.name == "dlt") != (self.seed is None):
            raise ValueError(f"estimator '{self.name}': poselib has a threshold and a seed, dlt has neither")

    def estimate(
        self, keypoints1: Points, keypoints2: Points, matches: npt.NDArray[np.integer]
    ) -> EstimatedHomography:
        """Estimates the homography from image 1 to image 2, if the matches determine one.

        Args:
            keypoints1: (N, 2 or more), x and y first, pixels of image 1.
            keypoints2: (M, 2 or more), the same in image 2.
            matches: (K, 2), indices into both.
        """
        if self.threshold is None or self.seed is None:
            return EstimatedHomography(homography_dlt(keypoints1, keypoints2, matches))
        return robust_estimate(keypoints1, keypoints2, matches, self.threshold, self.seed)


DLT = Estimator("dlt")
POSELIB = Estimator("poselib", ROBUST_THRESHOLD, seed=0)


def homography_dlt(keypoints1: Points, keypoints2: Points, matches: npt.NDArray[np.integer]) -> Floats | None:
    """Fits a homography to all matches, each counting the same, by algebraic least squares.

    The normalised direct linear transformation: Hartley and Zisserman, Multiple View Geometry, algorithm 4.2.
    One wrong match spoils it, so it shows more about the matches than a robust estimate.

    Args:
        keypoints1: (N, 2 or more), x and y first, pixels of image 1.
        keypoints2: (M, 2 or more), the same in image 2.
        matches: (K, 2), indices into both.

    Returns:
        homography_1to2: (3, 3), Frobenius norm 1; None if the matches do not determine one: fewer than four
            different ones, too many of them on a line, or an image of points that is a line or a point.
    """
    return _dlt(*_matched(keypoints1, keypoints2, matches))


def robust_estimate(
    keypoints1: Points,
    keypoints2: Points,
    matches: npt.NDArray[np.integer],
    threshold: float = ROBUST_THRESHOLD,
    seed: int = 0,
) -> EstimatedHomography:
    """Finds the homography that most matches agree on, by PoseLib's LO-RANSAC; the same each time.

    Args:
        keypoints1: (N, 2 or more), x and y first, pixels of image 1.
        keypoints2: (M, 2 or more), the same in image 2.
        matches: (K, 2), indices into both.
        threshold: pixels of image 2 up to which a match supports an estimate; positive.
        seed: of the random draws.

    Returns:
        estimate: without a homography if the supporting matches do not determine one.

    Raises:
        ValueError: if the threshold is not positive, or PoseLib is not installed.
    """
    if not threshold > 0:
        raise ValueError(f"the threshold of a robust homography is {threshold} px; it must be positive")
    poselib = _poselib()
    points1, points2 = _matched(keypoints1, keypoints2, matches)
    if len(points1) < 4:
        return EstimatedHomography(None, 0)
    estimate, found = poselib.estimate_homography(
        points1, points2, {"max_reproj_error": float(threshold), "seed": seed, **_SAMPLING}, {}
    )
    support = np.array(found["inliers"], dtype=bool)
    # PoseLib gives a matrix whatever it was given: zeros, NaN, or one of the many that map a line rightly.
    if not np.isfinite(estimate).all() or _dlt(points1[support], points2[support]) is None:
        return EstimatedHomography(None, 0)
    return EstimatedHomography(_unit(estimate), int(support.sum()))


def corner_error(estimate: Floats | None, homography_1to2: Floats, width: float, height: float) -> float:
    """Measures how far the corners of image 1 are misplaced in image 2: mean of the four, pixels of image 2.

    The corners are those of the image's frame, (-0.5, -0.5) to (W - 0.5, H - 0.5).

    Args:
        estimate: (3, 3), or None if there is none.
        homography_1to2: (3, 3), the truth.
        width: of image 1, pixels.
        height: of image 1, pixels.

    Returns:
        error: infinite without an estimate, or if it (or the truth) puts a corner behind the horizon.
    """
    if estimate is None:
        return float(np.inf)
    corners = frame_corners(width, height)
    misses = apply_homography(estimate, corners) - apply_homography(homography_1to2, corners)
    error = float(np.linalg.norm(misses, axis=1).mean())
    return float(np.inf) if np.isnan(error) else error


def within(errors: Floats, threshold: float) -> Floats:
    """Says which corner errors (P,) are at most the threshold, as 1 or 0, (P,): MHA is their mean."""
    return (errors <= threshold).astype(np.float64)


def auc_shares(errors: Floats, threshold: float) -> Floats:
    """Returns what each pair adds to the area under the curve of corner errors: AUC is their mean.

    The curve is that of SuperGlue's `pose_auc` and of glue-factory: it goes in straight lines from (0, 0)
    through the points (i-th smallest error, i / P) and is flat from the last one below the threshold. So it
    rises by 1 / P on the way from each error to the next larger one. The pair of the larger error is given
    the area to the right of that line; its number depends on one other pair.

    Args:
        errors: (P,), pixels; infinite for a pair without homography.
        threshold: pixels.

    Returns:
        shares: (P,) in [0, 1].
    """
    order = np.argsort(errors, kind="stable")
    ascending = errors[order]
    before = np.concatenate([[0.0], ascending[:-1]])
    below = ascending < threshold
    shares = np.zeros(len(errors))
    shares[order[below]] = 1 - (before[below] + ascending[below]) / (2 * threshold)
    return shares


def _matched(
    keypoints1: Points, keypoints2: Points, matches: npt.NDArray[np.integer]
) -> tuple[Floats, Floats]:
    """The positions of matches, two of (K, 2)."""
    return (
        keypoints1[matches[:, 0], :2].astype(np.float64),
        keypoints2[matches[:, 1], :2].astype(np.float64),
    )


def _dlt(points1: Floats, points2: Floats) -> Floats | None:
    """As `homography_dlt`, of matched points (K, 2) and (K, 2)."""
    if len(points1) < 4 or not np.ptp(points1, axis=0).any() or not np.ptp(points2, axis=0).any():
        return None
    normalisation1, normalisation2 = _normalisation(points1), _normalisation(points2)
    system = _equations(apply_homography(normalisation1, points1), apply_homography(normalisation2, points2))
    # The triangle of (2K, 9) has its null space and singular values, in at most 9 rows.
    _, values, vectors = np.linalg.svd(np.linalg.qr(system, mode="r"))
    # Of nine unknowns eight must be fixed, all but the scale.
    if values[7] <= _DEGENERATE * values[0]:
        return None
    normalised = vectors[8].reshape(3, 3)
    strengths = np.linalg.svd(normalised, compute_uv=False)
    if strengths[2] <= _DEGENERATE * strengths[0]:
        return None
    return _unit(np.linalg.inv(normalisation2) @ normalised @ normalisation1)


def _normalisation(points: Floats) -> Floats:
    """Moves the mean of points (K, 2) to (0, 0) and makes their mean distance from it sqrt(2)."""
    centre = points.mean(axis=0)
    scale = np.sqrt(2) / np.linalg.norm(points - centre, axis=1).mean()
    return scaling(scale, scale) @ translation(-centre[0], -centre[1])


def _equations(points1: Floats, points2: Floats) -> Floats:
    """The linear equations (2K, 9) on the entries of a homography, row by row, that maps points to points."""
    (x, y), (u, v) = points1.T, points2.T
    one, zero = np.ones_like(x), np.zeros_like(x)
    return np.concatenate(
        [
            np.stack([x, y, one, zero, zero, zero, -u * x, -u * y, -u], axis=1),
            np.stack([zero, zero, zero, x, y, one, -v * x, -v * y, -v], axis=1),
        ]
    )


def _unit(homography: Floats) -> Floats:
    """The same homography with Frobenius norm 1 and a last entry that is not negative."""
    scaled: Floats = homography / np.linalg.norm(homography)
    return -scaled if scaled[2, 2] < 0 else scaled


def _poselib() -> Any:
    try:
        return import_module("poselib")
    except ImportError:
        raise ValueError(
            "robust homographies need PoseLib, which is not installed; `pip install poselib` adds it"
        ) from None
