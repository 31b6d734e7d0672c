"""Holds every convention of pixel coordinates, and homographies; `r2d2.warp` samples by them.

Positions are (x, y) in pixels, pixel centres at integers: (0, 0) is the centre of the top-left pixel, an
image of width W and height H covers [-0.5, W - 0.5] x [-0.5, H - 0.5]. Sampling grids are corner-aligned
(`align_corners=True`): -1 and 1 are the centres of the first and the last pixel. Homographies are (3, 3),
pixel to pixel, float64.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Real = TypeVar("Real", np.float32, np.float64)


def translation(dx: float, dy: float) -> Array:
    """Returns the homography (3, 3) that moves by (dx, dy) pixels; `translation(-x, -y)` crops at (x, y)."""
    return np.array([[1.0, 0.0, dx], [0.0, 1.0, dy], [0.0, 0.0, 1.0]])


def scaling(sx: float, sy: float) -> Array:
    """Returns the homography (3, 3) that multiplies positions by (sx, sy).

    The centre of the top-left pixel stays. Resizing an image does something else: it keeps the image's
    top-left corner. See `resize_homography`.
    """
    return np.array([[sx, 0.0, 0.0], [0.0, sy, 0.0], [0.0, 0.0, 1.0]])


def invert(homography: Array) -> Array:
    """Inverts a homography (3, 3): returns the one, (3, 3), that leads back."""
    return np.asarray(np.linalg.inv(homography), dtype=np.float64)


def resize_homography(width: float, height: float, new_width: float, new_height: float) -> Array:
    """Returns the homography (3, 3) from pixels of an image to pixels of the same image resized.

    x' = (x + 0.5) * new_width / width - 0.5: the frame goes to the frame (corner (-0.5, -0.5) stays), as in
    Pillow's `resize` and in `interpolate` with `align_corners=False`. All sizes are in pixels.
    """
    sx, sy = new_width / width, new_height / height
    return np.array([[sx, 0.0, (sx - 1) / 2], [0.0, sy, (sy - 1) / 2], [0.0, 0.0, 1.0]])


def frame_corners(width: float, height: float) -> Array:
    """Returns the corners of a frame, (4, 2), clockwise from (-0.5, -0.5), over (W - 0.5, H - 0.5)."""
    right, bottom = width - 0.5, height - 0.5
    return np.array([[-0.5, -0.5], [right, -0.5], [right, bottom], [-0.5, bottom]])


def homography_from_points(source: Array, target: Array) -> Array:
    """Finds the homography that maps four points to four others.

    Args:
        source: (4, 2), x and y, pixels of image 1.
        target: (4, 2), where they go, pixels of image 2.

    Returns:
        (3, 3) float64, scaled so that its last entry is 1.

    Raises:
        ValueError: if three of the points lie on a line.
    """
    rows = []
    for (x, y), (u, v) in zip(source, target, strict=True):
        rows.append([x, y, 1, 0, 0, 0, -u * x, -u * y])
        rows.append([0, 0, 0, x, y, 1, -v * x, -v * y])
    try:
        solution = np.linalg.solve(np.array(rows, dtype=np.float64), np.asarray(target, np.float64).ravel())
    except np.linalg.LinAlgError:
        raise ValueError("no homography maps these four points: three of them lie on a line") from None
    return np.append(solution, 1.0).reshape(3, 3)


def apply_homography(homography: Array, points: npt.NDArray[np.floating]) -> Array:
    """Maps points; those on or behind the horizon become NaN.

    The side of the horizon that counts as visible is the one where the pixel (0, 0) lies. Computed in
    float64.

    Args:
        homography: (3, 3), pixel to pixel.
        points: (..., 2), x and y, pixels.

    Returns:
        (..., 2) float64, x and y, pixels.
    """
    points = np.asarray(points, dtype=np.float64)
    return np.stack(map_positions(homography, points[..., 0], points[..., 1]), axis=-1)


def map_positions(
    homography: Array, x: npt.NDArray[Real], y: npt.NDArray[Real]
) -> tuple[npt.NDArray[Real], npt.NDArray[Real]]:
    """Maps x and y apart, in their own precision, as `apply_homography` does; a row and a column make a grid.

    Args:
        homography: (3, 3), pixel to pixel.
        x: float of any shape, pixels.
        y: float of any shape that `x` broadcasts with, pixels.

    Returns:
        the mapped x and y, of the shape that both broadcast to (any shape); NaN behind the horizon.
    """
    (a, b, c), (d, e, f), _ = homography.tolist()
    inverse = _side(homography) / _depth(homography, x, y)
    # The brackets matter for speed when x is a row and y a column.
    first = a * x + (b * y + c)
    second = d * x + (e * y + f)
    first *= inverse
    second *= inverse
    return first, second


def jacobian(homography: Array, points: npt.NDArray[np.floating]) -> Array:
    """Differentiates the mapped position by the position, at each point.

    Args:
        homography: (3, 3), pixel to pixel.
        points: (..., 2), x and y, pixels.

    Returns:
        (..., 2, 2) float64: rows are the mapped x and y, columns the point's x and y.
    """
    mapped = apply_homography(homography, points)
    depth = _depth(homography, points[..., 0], points[..., 1])[..., None, None]
    return _side(homography) * (homography[:2, :2] - mapped[..., None] * homography[2, :2]) / depth


def local_scale(homography: Array, points: npt.NDArray[np.floating]) -> Array:
    """Returns how much lengths grow around each point: sqrt|det d mapped / d point|.

    Args:
        homography: (3, 3), pixel to pixel.
        points: (..., 2), x and y, pixels.

    Returns:
        float64 of any shape, that of the points without the 2; NaN behind the horizon.
    """
    depth = _depth(homography, points[..., 0], points[..., 1])
    scale: Array = np.sqrt(np.abs(np.linalg.det(homography))) / depth**1.5
    return scale


def _side(homography: Array) -> float:
    """The sign that makes the third homogeneous coordinate positive at (0, 0)."""
    return -1.0 if homography[2, 2] < 0 else 1.0


def _depth(homography: Array, x: npt.NDArray[Real], y: npt.NDArray[Real]) -> npt.NDArray[Real]:
    """The third homogeneous coordinate times `_side`: positive where visible, NaN elsewhere."""
    a, b, c = (_side(homography) * homography[2]).tolist()
    depth = a * x + (b * y + c)
    return depth if depth.min(initial=np.inf) > 0 else np.where(depth > 0, depth, np.nan)
