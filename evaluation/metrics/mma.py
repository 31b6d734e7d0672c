"""Measures mean matching accuracy (MMA): the share of matches whose error is small.

Definition: Dusmanu et al., D2-Net, CVPR 2019, and its benchmark code.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from r2d2.geometry import apply_homography

Floats = npt.NDArray[np.float64]

# Pixels of image k, inclusive.
THRESHOLDS = tuple(range(1, 16))
# A match is called correct up to this error, pixels: MMA@3 is the field's headline.
CORRECT_WITHIN = 3


def matching_errors(
    keypoints1: npt.NDArray[np.floating],
    keypoints2: npt.NDArray[np.floating],
    matches: npt.NDArray[np.integer],
    homography_1to2: Floats,
) -> Floats:
    """Measures how far each match is from the truth, in image 2 only.

    Args:
        keypoints1: (N, 2 or more), x and y first, pixels of image 1.
        keypoints2: (M, 2 or more), the same in image 2.
        matches: (K, 2), indices into both.
        homography_1to2: (3, 3).

    Returns:
        errors: (K,), pixels of image 2; infinite where the true position lies behind the horizon.
    """
    found = keypoints2[matches[:, 1], :2].astype(np.float64)
    true = apply_homography(homography_1to2, keypoints1[matches[:, 0], :2].astype(np.float64))
    errors: Floats = np.linalg.norm(found - true, axis=1)
    return np.where(np.isnan(errors), np.inf, errors)


def mma(errors: Floats) -> Floats:
    """Returns the share of one pair's matches with an error of at most 1, 2, ..., 15 pixels.

    Args:
        errors: (K,), pixels.

    Returns:
        shares: (15,) in [0, 1]; all 0 if there is no match.
    """
    if not errors.size:
        return np.zeros(len(THRESHOLDS))
    shares: Floats = (errors[:, None] <= np.array(THRESHOLDS)).mean(axis=0)
    return shares
