"""Asks for the dense flow between two images only where it is needed."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import numpy.typing as npt

from r2d2.data.pairs.plan import Size
from r2d2.data.pairs.windows import CELLS, DRAWS, Window, valid_tries
from r2d2.geometry import Array

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

# A try takes the next of so many random pixels whose flow is known.
CANDIDATES = 4 * DRAWS

# The overlap of two windows is measured at PLACES x PLACES pixels of the first: several to each cell.
PLACES = 64


class FlowField(ABC):
    """A FlowField says how far each pixel of image 1 lies from its partner in image 2.

    Attributes:
        size: (width, height) of image 1, pixels.
    """

    size: Size

    @abstractmethod
    def relative(self, rows: Ints, columns: Ints) -> Floats:
        """Returns how far the partner of each pixel of image 1 lies from it.

        Args:
            rows: int64 of any shape, y of the pixels.
            columns: int64 of any shape that `rows` broadcasts with, x of the pixels.

        Returns:
            (..., 2) float32: x and y of the flow, pixels; NaN where it is unknown.
        """

    def partners(self, rows: Ints, columns: Ints) -> Array:
        """Returns where the partner of each pixel of image 1 lies in image 2.

        Args:
            rows: int64 of any shape, y of the pixels.
            columns: int64 of any shape that `rows` broadcasts with, x of the pixels.

        Returns:
            (..., 2) float64: x and y in image 2, pixels; NaN where the flow is unknown.
        """
        positions = np.stack(np.broadcast_arrays(columns, rows), axis=-1)
        return positions + self.relative(rows, columns).astype(np.float64)

    def windows(
        self, size1: Size, size2: Size, resize2: Array, crop_size: int, rng: np.random.Generator
    ) -> tuple[Window, Window] | None:
        """Finds the best of five valid tries for two windows that show the same place.

        A try takes a random pixel whose flow is known. It is valid if the pixel's partner lies in image 2 and
        the local scale, by central differences, lies in (0.2, 5).

        Args:
            size1: (width, height) of image 1, pixels.
            size2: (width, height) of image 2 rescaled, pixels.
            resize2: (3, 3), from pixels of image 2 to pixels of image 2 rescaled.
            crop_size: side of the windows after resizing, pixels.
            rng: draws the pixels that are tried.
        """
        rows, columns = self._tried(size1, rng.random((CANDIDATES, 2)))
        scale2, shift2 = resize2.diagonal()[:2], resize2[:2, 2]
        centres2 = self.partners(rows, columns) * scale2 + shift2
        scales = self._local_scale(rows, columns) * np.sqrt(scale2.prod())
        centres1 = np.stack([columns, rows], axis=1).astype(np.float64)
        windows = valid_tries(centres1, centres2, scales, size1, size2, crop_size)
        if not windows:
            return None
        shares = [
            self._overlap(*window1.frame, *window2.frame, scale2, shift2) for window1, window2 in windows
        ]
        best = int(np.argmax(shares))
        if shares[best] == 0:
            return None
        return windows[best]

    def crop_aflow(self, window1: Window, crop_size: int) -> Floats:
        """Returns where each pixel of a crop of image 1 lies in image 2.

        The flow is interpolated bilinearly. It is unknown where any pixel that takes part is unknown.

        Returns:
            (2, crop_size, crop_size) float32: x and y, pixels; NaN unknown.
        """
        x = window1.left - 0.5 + (np.arange(crop_size) + 0.5) * window1.width / crop_size
        y = window1.top - 0.5 + (np.arange(crop_size) + 0.5) * window1.height / crop_size
        (left, right, across), (upper, lower, down) = _between(x, self.size[0]), _between(y, self.size[1])
        rows = np.unique(np.concatenate([upper, lower]))
        columns = np.unique(np.concatenate([left, right]))
        # Each pixel is asked for once.
        part = self.relative(rows[:, None], columns)
        first, second = np.searchsorted(rows, upper), np.searchsorted(rows, lower)
        lines = _mix(part[first], part[second], down[:, None, None]) if down.any() else part[first]
        first, second = np.searchsorted(columns, left), np.searchsorted(columns, right)
        flow = _mix(lines[:, first], lines[:, second], across[:, None]) if across.any() else lines[:, first]
        return np.stack([flow[..., 0] + x, flow[..., 1] + y[:, None]]).astype(np.float32)

    def _tried(self, size1: Size, draws: Array) -> tuple[Ints, Ints]:
        """Row and column of the pixel of each try, (tries,): those of known flow, at most 250."""
        columns, rows = np.floor(draws * size1).astype(np.int64).T
        known = np.flatnonzero(both(np.isfinite(self.relative(rows, columns))))[:DRAWS]
        return rows[known], columns[known]

    def _local_scale(self, rows: Ints, columns: Ints) -> Array:
        """How much lengths grow around pixels: sqrt|det d partner / d pixel|, (tries,); NaN unknown."""
        width, height = self.size
        left, right = np.maximum(columns - 1, 0), np.minimum(columns + 1, width - 1)
        upper, lower = np.maximum(rows - 1, 0), np.minimum(rows + 1, height - 1)
        by_x = (self.partners(rows, right) - self.partners(rows, left)) / (right - left)[:, None]
        by_y = (self.partners(lower, columns) - self.partners(upper, columns)) / (lower - upper)[:, None]
        scale: Array = np.sqrt(np.abs(by_x[:, 0] * by_y[:, 1] - by_x[:, 1] * by_y[:, 0]))
        return scale

    def _overlap(
        self, corner1: Ints, side1: Ints, corner2: Ints, side2: Ints, scale2: Array, shift2: Array
    ) -> float:
        """The smaller of: the share of window 1 that lands in window 2; that of 16 x 16 cells it hits."""
        steps = (np.arange(PLACES) + 0.5) / PLACES
        columns, rows = (
            (corner + np.floor(steps * side)).astype(np.int64)
            for corner, side in zip(corner1, side1, strict=True)
        )
        flow = self.relative(rows[:, None], columns)
        # Partners in cells of window 2: what depends on a row or on a column alone is computed for these.
        per_pixel = CELLS / side2
        start = (shift2 + 0.5 - corner2) * per_pixel
        per_pixel = per_pixel * scale2
        x = flow[..., 0] * np.float32(per_pixel[0]) + (columns * per_pixel[0] + start[0]).astype(np.float32)
        y = (
            flow[..., 1] * np.float32(per_pixel[1])
            + (rows * per_pixel[1] + start[1]).astype(np.float32)[:, None]
        )
        lands = (x >= 0) & (x < CELLS) & (y >= 0) & (y < CELLS)
        hit = np.zeros((CELLS, CELLS), bool)
        hit[y[lands].astype(np.int64), x[lands].astype(np.int64)] = True
        return min(float(lands.mean()), float(hit.mean()))


def both(of_x_and_y: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Says where something holds of both x and y: (..., 2) bool becomes (...) bool, any shape.

    NumPy's `all` is far slower along so short an axis.
    """
    found: npt.NDArray[np.bool_] = of_x_and_y[..., 0] & of_x_and_y[..., 1]
    return found


def _between(positions: Array, count: int) -> tuple[Ints, Ints, Floats]:
    """The pixels before and after positions, and how far on the way they are; the border is repeated."""
    inside = np.clip(positions, 0, count - 1)
    before = np.floor(inside).astype(np.int64)
    share = (inside - before).astype(np.float32)
    # Where a position is a pixel, its neighbour takes no part, not even if it is unknown.
    return before, np.where(share > 0, before + 1, before), share


def _mix(first: Floats, second: Floats, share: Floats) -> Floats:
    mixed: Floats = first + (second - first) * share
    return mixed
