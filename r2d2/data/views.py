"""A view: what a homography shows of an image, sampled once, from a smaller copy where it shrinks."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from r2d2.data.images import Pixels
from r2d2.geometry import (
    Array,
    apply_homography,
    frame_corners,
    homography_grid,
    jacobian,
    map_positions,
    resize_homography,
    translation,
)

# Bilinear sampling alone does for shrinking by up to this; beyond, the part in view is resized beforehand.
MAX_UNFILTERED_SHRINK = 1.2


def view(pixels: Pixels, to_pixels: Array, side: int) -> Tensor:
    """The square image that shows `pixels` through a homography, bilinear.

    Shrinking is antialiased by its amount at the centre of the view, in x and in y. Positions outside the
    image repeat its border.

    Args:
        pixels: (H, W, 3) uint8 RGB.
        to_pixels: (3, 3), from pixels of the view to pixels of the image.
        side: of the view, pixels.

    Returns:
        (3, side, side) float32 in [0, 255].
    """
    part, to_part = _part_in_view(pixels, to_pixels, side)
    height, width = part.shape[2:]
    grid = homography_grid(to_part, side, side, height, width)
    shown = F.grid_sample(
        part.to(torch.float32), grid, mode="bilinear", padding_mode="border", align_corners=True
    )
    return shown[0]


def thumbnail(pixels: Pixels, to_pixels: Array, size: tuple[int, int], side: int) -> Tensor:
    """A regular grid of single pixels from all over an image: (3, side, side) float32 in [0, 255].

    Args:
        pixels: (H, W, 3) uint8 RGB.
        to_pixels: (3, 3), from pixels of the image to be sampled to `pixels`.
        size: (width, height) of the image to be sampled.
        side: how many positions in x and in y.
    """
    line = np.arange(side, dtype=np.float64)
    spread = resize_homography(side, side, *size)
    x, y = map_positions(to_pixels @ spread, line, line[:, None])
    height, width = pixels.shape[:2]
    column = (x + 0.5).clip(0, width - 1).astype(np.intp)
    row = (y + 0.5).clip(0, height - 1).astype(np.intp)
    return torch.from_numpy(pixels[row, column].transpose(2, 0, 1).astype(np.float32))


def least_shrink(to_pixels: Array, side: int) -> float:
    """The least by which a view shrinks the image, in any direction at any corner: pixels per pixel."""
    corners = frame_corners(side, side)
    return float(np.linalg.svd(jacobian(to_pixels, corners), compute_uv=False).min())


def _part_in_view(pixels: Pixels, to_pixels: Array, side: int) -> tuple[Tensor, Array]:
    """The part of an image that is in view, (1, 3, h, w) uint8, shrunk if the view shrinks; the way to it."""
    corners, shrink = _extent(to_pixels, side)
    # Filters reach this far beyond the frame.
    margin = 2 * shrink
    limits = (pixels.shape[1], pixels.shape[0])
    first = (corners.min(axis=0) - margin).tolist()
    last = (corners.max(axis=0) + margin).tolist()
    left, top = (max(0, min(math.floor(v), n - 1)) for v, n in zip(first, limits, strict=True))
    right, bottom = (max(1, min(math.ceil(v), n)) for v, n in zip(last, limits, strict=True))
    # Behind the permutation the memory keeps its order, in which PyTorch resizes bytes quickest.
    part = torch.from_numpy(pixels[top:bottom, left:right].copy()).permute(2, 0, 1)[None]
    to_part = translation(-left, -top) @ to_pixels
    if shrink.max() <= MAX_UNFILTERED_SHRINK:
        return part, to_part
    width, height = right - left, bottom - top
    new_width, new_height = max(1, round(width / shrink[0])), max(1, round(height / shrink[1]))
    part = F.interpolate(part, (new_height, new_width), mode="bilinear", antialias=True)
    return part, resize_homography(width, height, new_width, new_height) @ to_part


def _extent(to_pixels: Array, side: int) -> tuple[Array, Array]:
    """Where the corners of a view lie in the image, (4, 2), and how much it shrinks x and y there, (2,).

    The shrinking is that at the centre of the view, and at least 1: how many pixels of the image one step in
    the view goes at most in x, and in y.
    """
    middle = (side - 1) / 2
    steps = np.array([[0.5, 0.0], [0.0, 0.5]])
    points = np.concatenate([frame_corners(side, side), middle + steps, middle - steps])
    mapped = apply_homography(to_pixels, points)
    shrink = np.sqrt(np.square(mapped[4:6] - mapped[6:8]).sum(axis=0))
    return mapped[:4], np.maximum(1, shrink)
