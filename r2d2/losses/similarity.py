"""Compares two repeatability maps, patch by patch.

To add one: write a function below, decorate it with `@register`, done. Its name is the name in the
configuration; the command line, the sweeps and the tests find it by themselves. It receives

    patches1, patches2: (M, N*N), two sets of M patches of N x N pixels, values in [0, 1), raw (each function
        normalises as it needs); pixels without a partner are 0 in both

and returns (M,) similarities, 1 for equal patches. It must be differentiable, and finite in value and
gradient for patches of zeros.

The measures: S.-H. Cha, "Comprehensive survey on distance/similarity measures between probability density
functions", 2007.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from r2d2.warp import warp

Similarity = Callable[[Tensor, Tensor], Tensor]

SIMILARITIES: dict[str, Similarity] = {}

# Smallest divisor: patches of the network's maps have sums and norms far above, those of zeros give 0 / EPS.
EPS = 1e-6
# Products below it count as 0: 2 N² sqrt(1e-22) stays under 1e-6 up to patches of 200 x 200 pixels.
TINY = 1e-22


def register(function: Similarity) -> Similarity:
    """Makes a similarity known under its function's name."""
    assert function.__name__ not in SIMILARITIES, f"two similarities are called {function.__name__}"
    SIMILARITIES[function.__name__] = function
    return function


@register
def cosine(patches1: Tensor, patches2: Tensor) -> Tensor:
    """Sums PQ / (|P| |Q|), the similarity of the R2D2 paper.

    Args:
        patches1: (M, N*N) in [0, 1).
        patches2: (M, N*N) in [0, 1).

    Returns:
        (M,) in [0, 1]; 0 where a patch is all zero.
    """
    norm1, norm2 = torch.linalg.vector_norm(patches1, dim=1), torch.linalg.vector_norm(patches2, dim=1)
    norms: Tensor = norm1.clamp_min(EPS) * norm2.clamp_min(EPS)
    return (patches1 * patches2).sum(dim=1) / norms


@register
def dice(patches1: Tensor, patches2: Tensor) -> Tensor:
    """Computes 2 sum PQ / (sum P² + sum Q²) of raw patches: it sees their brightness, cosine does not.

    Args:
        patches1: (M, N*N) in [0, 1).
        patches2: (M, N*N) in [0, 1).

    Returns:
        (M,) in [0, 1]; 0 where both patches are all zero.
    """
    # A sum of squares, so the smallest divisor is EPS squared.
    squares = (patches1.square() + patches2.square()).sum(dim=1)
    return 2 * (patches1 * patches2).sum(dim=1) / squares.clamp_min(EPS**2)


@register
def jaccard(patches1: Tensor, patches2: Tensor) -> Tensor:
    """Computes sum PQ / (sum P² + sum Q² - sum PQ) = dice / (2 - dice) of raw patches.

    Args:
        patches1: (M, N*N) in [0, 1).
        patches2: (M, N*N) in [0, 1).

    Returns:
        (M,) in [0, 1]; 0 where both patches are all zero.
    """
    product = (patches1 * patches2).sum(dim=1)
    squares = (patches1.square() + patches2.square()).sum(dim=1)
    return product / (squares - product).clamp_min(EPS**2)


@register
def czekanowski(patches1: Tensor, patches2: Tensor) -> Tensor:
    """Computes 2 sum min(P, Q) / sum (P + Q) of raw patches.

    Args:
        patches1: (M, N*N) in [0, 1).
        patches2: (M, N*N) in [0, 1).

    Returns:
        (M,) in [0, 1]; 0 where both patches are all zero.
    """
    return 2 * patches1.minimum(patches2).sum(dim=1) / (patches1 + patches2).sum(dim=1).clamp_min(EPS)


@register
def squared_chord(patches1: Tensor, patches2: Tensor) -> Tensor:
    """Computes 2 sum sqrt(pq) - 1 with p = P / sum P and q = Q / sum Q.

    The slope of the root is infinite at 0: products below TINY count as 0 with slope 0, which moves no value
    by more than 1e-6. (An eps under the root would be summed over all masked pixels.)

    Args:
        patches1: (M, N*N) in [0, 1).
        patches2: (M, N*N) in [0, 1).

    Returns:
        (M,) in [-1, 1]; -1 where a patch is all zero.
    """
    p = patches1 / patches1.sum(dim=1, keepdim=True).clamp_min(EPS)
    q = patches2 / patches2.sum(dim=1, keepdim=True).clamp_min(EPS)
    product = p * q
    positive = product > TINY
    # `where` before and after the root: a gradient of infinity times 0 would be NaN, even where it is masked.
    roots = product.where(positive, product.new_ones(())).sqrt().where(positive, product.new_zeros(()))
    return 2 * roots.sum(dim=1) - 1


def similarity_loss(
    repeatability1: Tensor, repeatability2: Tensor, aflow: Tensor, similarity: str, patch_size: int
) -> Tensor:
    """Computes 1 - mean similarity of the patches of map 1 and of map 2 seen from image 1.

    Pixels without a partner in image 2 are 0 in both maps; patches without a valid pixel do not count. If no
    patch counts, the loss is 0 and so is its gradient.

    Args:
        repeatability1: (B, 1, H, W) in [0, 1].
        repeatability2: (B, 1, H2, W2) in [0, 1].
        aflow: (B, 2, H, W), pixels of image 2, NaN unknown.
        similarity: a key of SIMILARITIES.
        patch_size: side N of the patches, pixels, even; their stride is N / 2.

    Returns:
        scalar in [0, 1], or up to 2 for a similarity that may be negative.

    Raises:
        ValueError: if the maps are smaller than a patch.
    """
    warped, valid = warp(repeatability2, aflow)
    seen = torch.where(valid, repeatability1, torch.zeros_like(repeatability1))
    # One valid pixel is enough: pixels that are 0 in both maps add nothing to any of the sums above.
    counts = cut_patches(valid.to(warped.dtype), patch_size).any(dim=1)
    values = SIMILARITIES[similarity](cut_patches(seen, patch_size), cut_patches(warped, patch_size))
    # Masked, not selected: the number of patches stays the same, and nothing waits for the device.
    losses = torch.where(counts, 1 - values, torch.zeros_like(values))
    return losses.sum() / counts.sum().clamp(min=1)


def cut_patches(maps: Tensor, patch_size: int) -> Tensor:
    """Cuts maps (B, 1, H, W) into N x N patches with stride N / 2: (M, N*N), row by row, map by map.

    Rows and columns that fill no patch are dropped.

    Raises:
        ValueError: if the maps are smaller than a patch.
    """
    height, width = maps.shape[2:]
    if min(height, width) < patch_size:
        raise ValueError(
            f"a patch of {patch_size} px (loss.patch_size) does not fit into maps of {width} x {height} px"
        )
    return F.unfold(maps, patch_size, stride=patch_size // 2).transpose(1, 2).flatten(0, 1)
