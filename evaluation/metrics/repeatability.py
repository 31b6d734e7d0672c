"""Measures repeatability: are the same places found in both images, how precisely, and matched?

Definitions: Mikolajczyk et al., A comparison of affine region detectors, IJCV 2005, and for points instead of
regions DeTone et al., SuperPoint, CVPRW 2018. Positions are in pixels of their image.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from r2d2.geometry import apply_homography, translation

Floats = npt.NDArray[np.float64]
Points = npt.NDArray[np.floating]
Mask = npt.NDArray[np.bool_]
Size = tuple[float, float]

# Of repeatability, pixels, inclusive.
THRESHOLDS = (1, 3)

# Up to this distance in pixels, inclusive, a keypoint counts as found again and a match as correct.
WITHIN = 3

# An image is cut into as many cells each way: with 1024 keypoints strewn at random 63 % of the cells are hit.
CELLS = 32


@dataclass(frozen=True)
class Overlap:
    """An Overlap says which keypoints both images show, and how far the other image's nearest one is.

    Attributes:
        visible1, visible2: (N,) and (M,), whether the keypoint, mapped, lies inside the other image.
        distances1: (N,), from the mapped keypoint to the nearest keypoint of image 2, in pixels of image 2;
            infinite where it is not visible and where image 2 has no keypoint.
        distances2: (M,), the same from image 2 to image 1, in pixels of image 1.
    """

    visible1: Mask
    visible2: Mask
    distances1: Floats
    distances2: Floats


def equal_budget(keypoints1: Points, keypoints2: Points, budget: int | None = None) -> tuple[Points, Points]:
    """Keeps the best keypoints of both images, equally many: more keypoints are found again by chance.

    Args:
        keypoints1: (N, 2 or more), best first.
        keypoints2: (M, 2 or more), best first.
        budget: at most as many; None for the smaller of N and M.

    Returns:
        the first K of each, (K, 2 or more).
    """
    count = min(len(keypoints1), len(keypoints2))
    if budget is not None:
        count = min(count, budget)
    return keypoints1[:count], keypoints2[:count]


def overlap(
    keypoints1: Points, keypoints2: Points, homography_1to2: Floats, size1: Size, size2: Size
) -> Overlap:
    """Maps the keypoints of each image into the other and looks for the nearest one there.

    The nearest is sought among all of the other image, be it visible in the first or not; several keypoints
    may have the same nearest. An image of width W and height H covers [-0.5, W - 0.5] x [-0.5, H - 0.5].

    Args:
        keypoints1: (N, 2 or more), x and y first, pixels of image 1.
        keypoints2: (M, 2 or more), the same in image 2.
        homography_1to2: (3, 3), invertible.
        size1: width and height of image 1, pixels.
        size2: width and height of image 2, pixels.
    """
    points1, points2 = keypoints1[:, :2].astype(np.float64), keypoints2[:, :2].astype(np.float64)
    mapped1, mapped2 = apply_homography(homography_1to2, points1), _map_back(homography_1to2, points2)
    visible1, visible2 = _inside(mapped1, size2), _inside(mapped2, size1)
    return Overlap(
        visible1=visible1,
        visible2=visible2,
        distances1=_nearest(mapped1, visible1, points2),
        distances2=_nearest(mapped2, visible2, points1),
    )


def repeatability(pair: Overlap) -> Floats:
    """Returns the share of visible keypoints with a keypoint of the other image within 1 and 3 pixels.

    The mean of both directions; a direction without visible keypoints counts 0. To be compared only at the
    same number of keypoints, see `equal_budget`.

    Returns:
        shares: (2,) in [0, 1].
    """
    directions = ((pair.distances1, pair.visible1), (pair.distances2, pair.visible2))
    return np.array(
        [np.mean([_share(d <= threshold, visible) for d, visible in directions]) for threshold in THRESHOLDS]
    )


def localisation_error(pair: Overlap) -> float:
    """Averages the distance of keypoints found again within 3 pixels, both directions together, in pixels.

    Returns:
        error: in [0, 3]; NaN if no keypoint was found again; means then leave the pair out.
    """
    distances = np.concatenate([pair.distances1, pair.distances2])
    found = distances[distances <= WITHIN]
    return float(found.mean()) if found.size else float(np.nan)


def matching_score(pair: Overlap, matches: npt.NDArray[np.integer], errors: Floats) -> float:
    """Returns the share of visible keypoints that are matched with an error of at most 3 pixels.

    The mean of both directions, as in SuperPoint; a direction without visible keypoints counts 0. A correct
    match whose keypoint lies just outside what both images show counts for nothing, so that no share exceeds
    1.

    Args:
        pair: the overlap of the keypoints that were matched.
        matches: (K, 2), indices into the keypoints of both images, none twice.
        errors: (K,), pixels, as of `matching_errors`.

    Returns:
        share: in [0, 1].
    """
    correct = matches[errors <= WITHIN]
    shares = []
    for indices, visible in ((correct[:, 0], pair.visible1), (correct[:, 1], pair.visible2)):
        matched = np.zeros_like(visible)
        matched[indices] = True
        shares.append(_share(matched, visible))
    return float(np.mean(shares))


def coverage(keypoints: Points, size: Size) -> float:
    """Returns the share of an image that has keypoints: of 32 x 32 cells, those with at least one.

    Cells are W / 32 by H / 32 pixels. A keypoint on or beyond the border counts in the nearest cell.

    Args:
        keypoints: (N, 2 or more), x and y first, pixels.
        size: width and height of the image, pixels.

    Returns:
        share: in [0, 1].
    """
    cells = np.floor((keypoints[:, :2].astype(np.float64) + 0.5) / np.array(size) * CELLS)
    column, row = np.clip(cells, 0, CELLS - 1).astype(np.int64).T
    return len(np.unique(row * CELLS + column)) / CELLS**2


def _map_back(homography_1to2: Floats, points2: Floats) -> Floats:
    """Points of image 2 (M, 2) in image 1; NaN where only the other side of the horizon is mapped to them.

    The side that counts is the one where (0, 0) of image 1 lies. `apply_homography` takes the one where
    (0, 0) of what it maps lies, so the origin of image 2 is moved to a point that is seen in image 1.
    """
    seen = apply_homography(homography_1to2, np.zeros(2))
    return apply_homography(np.linalg.inv(homography_1to2) @ translation(seen[0], seen[1]), points2 - seen)


def _inside(points: Floats, size: Size) -> Mask:
    """Whether points (N, 2) lie in an image; those behind the horizon, NaN, do not."""
    inside: Mask = np.all((points >= -0.5) & (points <= np.array(size) - 0.5), axis=1)
    return inside


def _nearest(mapped: Floats, visible: Mask, others: Floats) -> Floats:
    """From each visible point (N, 2) to the nearest of the others (M, 2): distances (N,), else infinite."""
    distances = np.full(len(mapped), np.inf)
    if len(others) and visible.any():
        # Two thirds of a second to import: not for those who only name a protocol.
        from scipy.spatial import cKDTree

        distances[visible], _ = cKDTree(others).query(mapped[visible])
    return distances


def _share(part: Mask, whole: Mask) -> float:
    """How much of `whole` is in `part`; 0 of nothing."""
    return float((part & whole).sum() / max(whole.sum(), 1))
