"""Samples a view: what a homography shows of an image. An upright rectangle is resampled only once.

Otherwise the visible part is cut out, downscaled if needed, and sampled. Images are Pillow's, so that only
that part leaves Pillow's memory.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from r2d2.geometry import Array, apply_homography, frame_corners, jacobian, resize_homography, translation
from r2d2.warp import homography_grid

# Bilinear sampling alone does for shrinking by up to this; beyond, the part in view is resized beforehand.
MAX_UNFILTERED_SHRINK = 1.2

# So far beyond its image a window may lie by rounding, pixels.
_ROUNDING = 1e-6


def view(image: Image.Image, to_image: Array, side: int) -> Tensor:
    """Samples the square view of an image through a homography, bilinearly.

    Shrinking is antialiased: in one resampling where the view is an upright rectangle of the image, otherwise
    by its amount at the centre of the view, in x and in y. Positions outside the image repeat its border.

    Args:
        image: RGB.
        to_image: (3, 3), from pixels of the view to pixels of the image.
        side: of the view, pixels.

    Returns:
        (3, side, side) float32 in [0, 255].
    """
    box = _box(image, to_image, side)
    if box is not None:
        return _planes(image.resize((side, side), Image.Resampling.BILINEAR, box))
    part, to_part, inside = part_in_view(image, to_image, side)
    height, width = part.shape[2:]
    grid = homography_grid(to_part, side, side, height, width)
    # Where nothing outside is seen, it need not be kept out, which is quicker.
    padding = "zeros" if inside else "border"
    return F.grid_sample(part.to(torch.float32), grid, "bilinear", padding, align_corners=True)[0]


def thumbnail(image: Image.Image, to_image: Array, size: tuple[int, int], side: int) -> Tensor:
    """Picks single pixels in a regular grid from all over an image: (3, side, side) float32 in [0, 255].

    Args:
        image: RGB.
        to_image: (3, 3), from pixels of the picture to be sampled to pixels of `image`.
        size: (width, height) of the picture to be sampled, pixels.
        side: how many positions in x and in y.
    """
    # Pillow counts from the corner of a pixel, not from its centre.
    way = translation(0.5, 0.5) @ to_image @ resize_homography(side, side, *size) @ translation(-0.5, -0.5)
    coefficients = (way / way[2, 2]).ravel()[:8].tolist()
    sampled = image.transform(
        (side, side), Image.Transform.PERSPECTIVE, coefficients, Image.Resampling.NEAREST
    )
    return _planes(sampled)


def least_shrink(to_pixels: Array, side: int) -> float:
    """Returns the least factor by which a view shrinks the image, in any direction at any corner.

    Args:
        to_pixels: (3, 3), from pixels of the view to pixels of the image.
        side: of the view, pixels.

    Returns:
        pixels of the image per pixel of the view.
    """
    corners = frame_corners(side, side)
    return float(np.linalg.svd(jacobian(to_pixels, corners), compute_uv=False).min())


def _box(image: Image.Image, to_image: Array, side: int) -> tuple[float, float, float, float] | None:
    """The rectangle (left, top, right, bottom) of the image that is in view; None if the view is no such one.

    Counted from the corner of the first pixel, as Pillow does.
    """
    (sx, skew_x, left), (skew_y, sy, top), (px, py, depth) = to_image.tolist()
    if skew_x or skew_y or px or py or depth != 1 or sx <= 0 or sy <= 0:
        return None
    left, top = left + (1 - sx) / 2, top + (1 - sy) / 2
    right, bottom = left + side * sx, top + side * sy
    width, height = image.size
    if min(left, top, width - right, height - bottom) < -_ROUNDING:
        return None
    return max(left, 0.0), max(top, 0.0), min(right, width), min(bottom, height)


def _planes(image: Image.Image) -> Tensor:
    """The pixels (3, H, W) float32."""
    return torch.from_numpy(np.asarray(image).transpose(2, 0, 1).astype(np.float32, order="C"))


def _bytes(image: Image.Image) -> Tensor:
    """The pixels (1, 3, H, W) uint8, in an order of memory in which PyTorch resizes bytes quickest."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)[None]


def part_in_view(image: Image.Image, to_image: Array, side: int) -> tuple[Tensor, Array, bool]:
    """Cuts out the part of an image that is in view, and shrinks it if the view shrinks it.

    Of an upright rectangle that is shrunk, the part is the view itself.

    Args:
        image: RGB.
        to_image: (3, 3), from pixels of the view to pixels of the image.
        side: of the view, pixels.

    Returns:
        part: (1, 3, h, w) uint8 RGB.
        to_part: (3, 3) float64, from pixels of the view to pixels of the part.
        inside: whether the view shows nothing outside the image.
    """
    corners, shrink = _extent(to_image, side)
    box = _box(image, to_image, side)
    if box is not None and shrink.max() > 1:
        return _bytes(image.resize((side, side), Image.Resampling.BILINEAR, box)), np.eye(3), True
    low, high = corners.min(axis=0).tolist(), corners.max(axis=0).tolist()
    inside = min(low) >= 0 and high[0] <= image.width - 1 and high[1] <= image.height - 1
    # Filters reach this far beyond the frame.
    margin = (2 * shrink).tolist()
    left, top = (
        max(0, min(math.floor(v - m), n - 1)) for v, m, n in zip(low, margin, image.size, strict=True)
    )
    right, bottom = (
        max(1, min(math.ceil(v + m), n)) for v, m, n in zip(high, margin, image.size, strict=True)
    )
    part = _bytes(image.crop((left, top, right, bottom)))
    to_part = translation(-left, -top) @ to_image
    if shrink.max() <= MAX_UNFILTERED_SHRINK:
        return part, to_part, inside
    width, height = right - left, bottom - top
    new_width, new_height = max(1, round(width / shrink[0])), max(1, round(height / shrink[1]))
    part = F.interpolate(part, (new_height, new_width), mode="bilinear", antialias=True)
    return part, resize_homography(width, height, new_width, new_height) @ to_part, inside


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
