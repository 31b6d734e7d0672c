"""Chooses the sizes at which an image is searched, and the tiles that one size is searched in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from r2d2.extraction.settings import ExtractionSettings
from r2d2.network import MIN_SIDE

SCALE_TOLERANCE = 0.001
"""Slack of the comparisons of scales with their bounds."""

TILE_PIXELS = 2**20
"""A larger level is searched in tiles of at most about this size, whose maps fit into 2 GiB."""

TILE_MARGIN = 32
"""Pixels that a tile sees beyond its own. A local maximum depends on 26 in `quad` and on 29 in `fast`."""


@dataclass(frozen=True)
class Tile:
    """A Tile is the part of a level whose keypoints it reports, and the window that the network sees.

    Attributes:
        window: slices of rows and columns of the level; they start at even numbers, as the half-resolution
            grid of `fast` does.
        core: slices of rows and columns of the window.
    """

    window: tuple[slice, slice]
    core: tuple[slice, slice]


def pyramid(image: Tensor, settings: ExtractionSettings) -> Iterator[tuple[float, Tensor]]:
    """Yields the scales to search and the image at each, from large to small.

    Each level is resized from the one before, whether that one is searched or not. The pyramid also ends
    before a level smaller than MIN_SIDE; it would have no end without a smallest scale and size.

    Args:
        image: (1, 3, H, W) float32, normalised RGB.
        settings: the scales and sizes that are searched.

    Yields:
        the scale, at most 1, and the image resized by it, (1, 3, h, w) float32.
    """
    height, width = image.shape[2:]
    longer = max(height, width)
    smallest = max(settings.min_scale, settings.min_size / longer)
    largest = min(settings.max_scale, settings.max_size / longer)
    # Divisions add up their rounding; the tolerance keeps a level that lies at a bound.
    scale, level = 1.0, image
    while scale + SCALE_TOLERANCE >= smallest and min(level.shape[2:]) >= MIN_SIDE:
        if scale - SCALE_TOLERANCE <= largest:
            yield scale, level
        scale /= settings.scale_factor
        size = (max(1, round(height * scale)), max(1, round(width * scale)))
        level = F.interpolate(level, size, mode="bilinear", align_corners=False)


def tiles(height: int, width: int) -> list[Tile]:
    """Cuts a level into tiles whose cores cover it, each pixel once; a small level is a single tile.

    The window ends where the level does, so that the network sees the level's border where there is one.
    """
    rows, columns = 1, 1
    while _part(height, rows) * _part(width, columns) > TILE_PIXELS:
        # The longer side is cut: of all shapes squares have the fewest pixels of margin.
        if _part(height, rows) >= _part(width, columns):
            rows += 1
        else:
            columns += 1
    return [
        Tile(window=(row_window, column_window), core=(row_core, column_core))
        for row_window, row_core in _spans(height, _part(height, rows))
        for column_window, column_core in _spans(width, _part(width, columns))
    ]


def _part(side: int, count: int) -> int:
    """The length of `count` equal parts of a side, rounded up to an even number."""
    # Even, as the half-resolution grid of `fast` starts at even pixels.
    return -(-side // (2 * count)) * 2


def _spans(side: int, part: int) -> Iterator[tuple[slice, slice]]:
    """Windows and cores along one side."""
    for start in range(0, side, part):
        first = max(0, start - TILE_MARGIN)
        end = min(side, start + part)
        # The core counts from the start of its window, since only the window is seen.
        yield slice(first, min(side, end + TILE_MARGIN)), slice(start - first, end - first)
