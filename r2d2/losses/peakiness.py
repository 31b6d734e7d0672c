"""Computes peakiness: a repeatability map shall have one clear peak in every patch, not be flat."""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from r2d2.processor.to_device import constant


def peakiness_loss(repeatability: Tensor, patch_size: int) -> Tensor:
    """Computes 1 - mean(max - mean) over the (N + 1) x (N + 1) window around every pixel, after smoothing.

    Smoothed is the mean of 3x3 pixels. Zeros beyond the border count in means, not in maxima. (Revaud et al.,
    "R2D2: Reliable and repeatable detector and descriptor", NeurIPS 2019; the smoothing is of their code.)

    Args:
        repeatability: (B, 1, H, W) in [0, 1].
        patch_size: N, pixels, even.

    Returns:
        A scalar in [0, 1]; 1 for a map of zeros.
    """
    smooth = F.avg_pool2d(repeatability, 3, stride=1, padding=1)
    side, margin = patch_size + 1, patch_size // 2
    # Rows, then columns: 2 (N + 1) instead of (N + 1)² comparisons a pixel.
    highest = F.max_pool2d(smooth, (1, side), stride=1, padding=(0, margin))
    highest = F.max_pool2d(highest, (side, 1), stride=1, padding=(margin, 0))
    # The mean of a difference is the difference of the means: no map of differences is made.
    return 1 - highest.mean() + _mean_of_means(smooth, side)


def _mean_of_means(maps: Tensor, side: int) -> Tensor:
    """Mean over the pixels of maps (B, 1, H, W) of the mean of their side x side surroundings.

    Every pixel counts as often as it lies in surroundings: less often near the border.
    """
    rows, columns = (_counts(size, side, maps.dtype, maps.device) for size in maps.shape[2:])
    # How often a pixel counts is a product of its row's and its column's number: two products of matrices
    # stand for a filter of side² numbers a pixel.
    return (maps[:, 0] @ columns @ rows).mean() / (len(rows) * len(columns) * side**2)


@lru_cache(maxsize=64)
def _counts(size: int, side: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """In how many of the surroundings each of `size` pixels in a row lies: (size,)."""
    margin = side // 2
    counts = (min(place + margin, size - 1) - max(place - margin, 0) + 1 for place in range(size))
    return constant(tuple(counts), dtype, device)
