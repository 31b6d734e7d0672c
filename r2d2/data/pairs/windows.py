"""Finds where a pair is cropped: two windows that show the same place at the same scale.

Only geometry: no pixel is looked at. Positions in pixels as in `r2d2.geometry`, sizes as (width, height).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from r2d2.geometry import (
    Array,
    apply_homography,
    invert,
    local_scale,
    map_positions,
    resize_homography,
    translation,
)

# The best of five valid tries is taken; for so many random pixels at most, valid ones are looked for.
TRIES, DRAWS = 5, 250
MIN_SCALE, MAX_SCALE = 0.2, 5.0

# The overlap of two windows is measured by CELLS x CELLS cells of each.
CELLS = 16

# Places in a unit line: the middles of the cells; near both ends of each cell.
_CENTRES = (np.arange(CELLS) + 0.5) / CELLS
_NEAR_EDGES = ((np.arange(CELLS)[:, None] + np.array([0.1, 0.9])) / CELLS).ravel()


@dataclass(frozen=True)
class Window:
    """A Window is a rectangle of whole pixels: columns `left` to `left + width - 1`, rows likewise."""

    left: int
    top: int
    width: int
    height: int

    @property
    def frame(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Returns the corner (left, top) and the size (width, height) as arrays (2,) int64, pixels."""
        return np.array([self.left, self.top]), np.array([self.width, self.height])

    def from_crop(self, crop_size: int) -> Array:
        """Returns the homography (3, 3) from the window's crop, crop_size pixels a side, to the image."""
        resize = resize_homography(crop_size, crop_size, self.width, self.height)
        return translation(self.left, self.top) @ resize

    def to_crop(self, crop_size: int) -> Array:
        """Returns the homography (3, 3) from the image to the window's crop: the inverse of `from_crop`."""
        resize = resize_homography(self.width, self.height, crop_size, crop_size)
        return resize @ translation(-self.left, -self.top)


def find_windows(
    homography_1to2: Array,
    size1: tuple[int, int],
    size2: tuple[int, int],
    crop_size: int,
    draws: npt.NDArray[np.float64],
) -> tuple[Window, Window] | None:
    """Finds the best pair of windows among the first five valid tries; None if no try is valid.

    A try takes a random pixel of image 1; it is valid if the pixel's partner lies in image 2 and the local
    scale s there in (0.2, 5). The windows are centred on the two and have sides crop_size * max(1, 1/s) in
    image 1 and crop_size * max(1, s) in image 2, whole pixels; they are shifted into their image, and cut to
    it where they are larger. The best try is the one of largest overlap, see `_overlap`.

    Args:
        homography_1to2: (3, 3), pixel to pixel.
        size1: (width, height) of image 1, pixels.
        size2: (width, height) of image 2, pixels.
        crop_size: side of the windows after resizing, pixels.
        draws: (draws, 2) in [0, 1): the random pixels, in the order in which they are tried.
    """
    centres1 = np.floor(draws * np.array(size1))
    centres2 = apply_homography(homography_1to2, centres1)
    scales = local_scale(homography_1to2, centres1)
    tries = valid_tries(centres1, centres2, scales, size1, size2, crop_size)
    if len(tries) <= 1:
        return tries[0] if tries else None
    return tries[int(np.argmax(_overlap(homography_1to2, *zip(*tries, strict=True))))]


def valid_tries(
    centres1: Array,
    centres2: Array,
    scales: Array,
    size1: tuple[int, int],
    size2: tuple[int, int],
    crop_size: int,
) -> list[tuple[Window, Window]]:
    """Places windows around the first five valid tries, see `find_windows`; fewer if fewer are valid.

    Args:
        centres1: (draws, 2), the random pixels of image 1.
        centres2: (draws, 2), their partners in image 2, pixels; NaN unknown.
        scales: (draws,), local scales; NaN unknown.
        size1: (width, height) of image 1, pixels.
        size2: (width, height) of image 2, pixels.
        crop_size: side of the windows after resizing, pixels.
    """
    # A frame reaches half a pixel beyond the outer centres. Comparisons with NaN are false.
    x, y = centres2.T
    inside = (x > -0.5) & (x < size2[0] - 0.5) & (y > -0.5) & (y < size2[1] - 0.5)
    # The first five in the order of the draws, as in the recipe; the rest would cost time and change pairs.
    valid = np.flatnonzero(inside & (scales > MIN_SCALE) & (scales < MAX_SCALE))[:TRIES]
    chosen = (values[valid].tolist() for values in (centres1, centres2, scales))
    # Where image 2 is s times larger, its window must be s times larger to show the same. The smaller window
    # has the size of the crop, so no pixel is enlarged.
    return [
        (
            place_window(centre1, crop_size * max(1, 1 / scale), size1),
            place_window(centre2, crop_size * max(1, scale), size2),
        )
        for centre1, centre2, scale in zip(*chosen, strict=True)
    ]


def place_window(centre: Sequence[float], side: float, size: tuple[int, int]) -> Window:
    """Places a square of a given side around a centre (x, y), in whole pixels, shifted into the image."""
    # Ten of them for each pair: no loop over the two sides.
    whole = math.floor(side + 0.5)
    width, height = min(whole, size[0]), min(whole, size[1])
    left = max(0, min(math.floor(centre[0] - width / 2 + 0.5), size[0] - width))
    top = max(0, min(math.floor(centre[1] - height / 2 + 0.5), size[1] - height))
    return Window(left, top, width, height)


def fallback_windows(
    size1: tuple[int, int], size2: tuple[int, int], crop_size: int, draws: npt.NDArray[np.float64]
) -> tuple[Window, Window]:
    """Places windows at random places (2, 2) in [0, 1), for a pair without common windows."""
    window1, window2 = (
        place_window((draw * np.array(size)).tolist(), crop_size, size)
        for size, draw in zip((size1, size2), draws, strict=True)
    )
    return window1, window2


def _overlap(
    homography_1to2: Array, windows1: Sequence[Window], windows2: Sequence[Window]
) -> npt.NDArray[np.float64]:
    """How well each of K pairs of windows shows the same: (K,) in [0, 1].

    The smaller of: the share of window 1 that lands in window 2; the share of 16 x 16 cells of window 2 that
    window 1 hits. The first is measured at the cells' centres, the second near the four corners of each cell.
    """
    frames1, frames2 = (
        np.array([(w.left, w.top, w.width, w.height) for w in windows], dtype=np.float64)
        for windows in (windows1, windows2)
    )
    # The first share is that of window 1, the second that of window 2: a window that lies within the other
    # and fills little of it must not win.
    lands = _within(homography_1to2, _CENTRES, frames1, frames2)
    hit = _within(invert(homography_1to2), _NEAR_EDGES, frames2, frames1)
    # A cell is hit if any of its four points is: first the two in y, then the two in x.
    rows = hit[:, ::2] | hit[:, 1::2]
    cells = rows[..., ::2] | rows[..., 1::2]
    share: npt.NDArray[np.float64] = np.minimum(lands.sum(axis=(1, 2)), cells.sum(axis=(1, 2))) / CELLS**2
    return share


def _within(homography: Array, places: Array, frames: Array, others: Array) -> npt.NDArray[np.bool_]:
    """Whether places (N,) x (N,) of each of K frames (K, 4) land in the other frame: (K, N, N), rows y."""
    lines = frames[:, :2, None] - 0.5 + places * frames[:, 2:, None]
    # A row of x and a column of y stand for the N x N places.
    x, y = map_positions(homography, lines[:, 0, None, :], lines[:, 1, :, None])
    left, top, right, bottom = (edge[:, None, None] for edge in _edges(others))
    return (x > left) & (x < right) & (y > top) & (y < bottom)


def _edges(frames: Array) -> tuple[Array, Array, Array, Array]:
    """Left, top, right and bottom, (K,) each, of frames (K, 4) of left, top, width and height."""
    first = frames[:, :2] - 0.5
    end = first + frames[:, 2:]
    return first[:, 0], first[:, 1], end[:, 0], end[:, 1]
