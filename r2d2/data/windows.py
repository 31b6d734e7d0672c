"""Where a pair is cropped: two windows that show the same place at the same scale.

Only geometry: no pixel is looked at. Positions in pixels as in `r2d2.geometry`, sizes as (width, height).
"""

from __future__ import annotations

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

TRIES = 5
MIN_SCALE, MAX_SCALE = 0.2, 5.0

# The overlap of two windows is judged by CELLS x CELLS cells of each.
CELLS = 16

# Places in a unit line: the middles of the cells; near both ends of each cell.
_CENTRES = (np.arange(CELLS) + 0.5) / CELLS
_NEAR_EDGES = ((np.arange(CELLS)[:, None] + np.array([0.1, 0.9])) / CELLS).ravel()

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Window:
    """A rectangle of whole pixels of an image: columns `left` to `left + width - 1`, rows likewise."""

    left: int
    top: int
    width: int
    height: int

    def from_crop(self, crop_size: int) -> Array:
        """The homography from pixels of the window resized to crop_size x crop_size to those of the image."""
        resize = resize_homography(crop_size, crop_size, self.width, self.height)
        return translation(self.left, self.top) @ resize

    def to_crop(self, crop_size: int) -> Array:
        """The inverse of `from_crop`."""
        resize = resize_homography(self.width, self.height, crop_size, crop_size)
        return resize @ translation(-self.left, -self.top)


def find_windows(
    homography_1to2: Array,
    size1: tuple[int, int],
    size2: tuple[int, int],
    crop_size: int,
    draws: npt.NDArray[np.float64],
) -> tuple[Window, Window] | None:
    """The best pair of windows among several tries, or None if no try succeeds.

    A try takes a random pixel of image 1; its partner must lie in image 2 and the local scale s there in
    (0.2, 5). The windows are centred on the two and have sides crop_size * max(1, 1/s) in image 1 and
    crop_size * max(1, s) in image 2, whole pixels; they are shifted into their image, and cut to it where
    they are larger. The best try is the one of largest overlap, see `_overlap`.

    Args:
        homography_1to2: (3, 3), pixel to pixel.
        size1: (width, height) of image 1, pixels.
        size2: (width, height) of image 2, pixels.
        crop_size: side of the windows after resizing, pixels.
        draws: (tries, 2) in [0, 1): the random pixels.
    """
    limits1, limits2 = np.array(size1), np.array(size2)
    centres1 = np.floor(draws * limits1)
    centres2 = apply_homography(homography_1to2, centres1)
    scales = local_scale(homography_1to2, centres1)
    inside = ((centres2 > -0.5) & (centres2 < limits2 - 0.5)).all(axis=1)
    usable = inside & (scales > MIN_SCALE) & (scales < MAX_SCALE)
    if not usable.any():
        return None
    scales = scales[usable]
    corners1, sides1 = place_windows(centres1[usable], crop_size * np.maximum(1, 1 / scales), limits1)
    corners2, sides2 = place_windows(centres2[usable], crop_size * np.maximum(1, scales), limits2)
    best = int(np.argmax(_overlap(homography_1to2, corners1, sides1, corners2, sides2)))
    return _window(corners1[best], sides1[best]), _window(corners2[best], sides2[best])


def place_windows(centres: Array, sides: Array, limits: Ints) -> tuple[Ints, Ints]:
    """Squares of the given sides (K,) around centres (K, 2), shifted into an image of size `limits` (2,).

    Returns:
        Their left top pixels (K, 2) and their widths and heights (K, 2), whole pixels.
    """
    spans = np.minimum(np.floor(sides + 0.5)[:, None], limits)
    corners = np.clip(np.floor(centres - spans / 2 + 0.5), 0, limits - spans)
    return corners.astype(np.int64), spans.astype(np.int64)


def fallback_windows(
    size1: tuple[int, int], size2: tuple[int, int], crop_size: int, draws: npt.NDArray[np.float64]
) -> tuple[Window, Window]:
    """Windows at random places (2, 2) in [0, 1), for a pair without common windows."""
    windows = []
    for size, draw in zip((size1, size2), draws, strict=True):
        limits = np.array(size)
        corners, spans = place_windows((draw * limits)[None], np.array([float(crop_size)]), limits)
        windows.append(_window(corners[0], spans[0]))
    return windows[0], windows[1]


def _window(corner: Ints, span: Ints) -> Window:
    return Window(int(corner[0]), int(corner[1]), int(span[0]), int(span[1]))


def _overlap(
    homography_1to2: Array, corners1: Ints, sides1: Ints, corners2: Ints, sides2: Ints
) -> npt.NDArray[np.float64]:
    """How well each of K pairs of windows shows the same: (K,) in [0, 1].

    The smaller of: the share of window 1 that lands in window 2; the share of 16 x 16 cells of window 2 that
    window 1 hits. The first is judged at the cells' centres, the second near the four corners of each cell.
    """
    lands = _within(homography_1to2, _CENTRES, corners1, sides1, corners2, sides2)
    back = invert(homography_1to2)
    hit = _within(back, _NEAR_EDGES, corners2, sides2, corners1, sides1)
    cells = hit.reshape(-1, CELLS, 2, CELLS, 2).any(axis=(2, 4))
    share: npt.NDArray[np.float64] = np.minimum(lands.mean(axis=(1, 2)), cells.mean(axis=(1, 2)))
    return share


def _within(
    homography: Array, places: Array, corners: Ints, sides: Ints, other_corners: Ints, other_sides: Ints
) -> npt.NDArray[np.bool_]:
    """Whether places (N,) x (N,) of each of K windows land in the other window: (K, N, N), rows y."""
    lines = corners[..., None] - 0.5 + places * sides[..., None]
    x, y = map_positions(homography, lines[:, 0, None, :], lines[:, 1, :, None])
    first = other_corners[..., None, None] - 0.5
    end = first + other_sides[..., None, None]
    within: npt.NDArray[np.bool_] = x > first[:, 0]
    within &= x < end[:, 0]
    within &= y > first[:, 1]
    within &= y < end[:, 1]
    return within
