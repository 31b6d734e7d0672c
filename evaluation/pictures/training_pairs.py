"""Draws training pairs: which points of two images the loss takes for the same place."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from evaluation.pictures.sheet import FAINT, MARGIN, Bytes, Sheet
from r2d2.containers import Pair
from r2d2.data.normalisation import denormalise
from r2d2.warp import sampling_grid

# Points drawn of a pair: one in each of CELLS x CELLS parts of image 1 that has a partner in image 2.
CELLS = 4

# Okabe and Ito's colours but black; neighbours differ.
_COLOURS = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7")

# What has no partner is mixed with so much of this grey.
_SHADE, _SHADE_GREY = 0.75, 235.0

_CROP_WIDTH, _TEXT, _GAP = 400, 18, 6
_PER_ROW = 2


def training_picture(pairs: Sequence[Pair], title: str) -> bytes:
    """Draws both crops of each pair, their shared part, and some points joined to their partners: a PNG.

    Pale pixels have no partner in the other crop and do not enter a loss.

    Args:
        pairs: at least one, of equal size.
        title: the first line.
    """
    line, width = 2 * _TEXT, 2 * _CROP_WIDTH + _GAP
    _, height, across = pairs[0].image1.shape
    row = line + round(height * _CROP_WIDTH / across)
    rows, columns = -(-len(pairs) // _PER_ROW), min(len(pairs), _PER_ROW)
    sheet = Sheet(columns * (width + 2 * MARGIN), 2 * MARGIN + line + rows * (row + _GAP), _TEXT)
    end = sheet.text(title, MARGIN, MARGIN + _TEXT, bold=True)
    sheet.text("pale: no partner in the other crop", end + _TEXT, MARGIN + _TEXT, colour=FAINT)
    for index, pair in enumerate(pairs):
        left = MARGIN + index % _PER_ROW * (width + 2 * MARGIN)
        top = MARGIN + 2 * line + index // _PER_ROW * (row + _GAP)
        _draw(sheet, pair, left, top)
    return sheet.png()


def shared_parts(pair: Pair) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Marks the pixels with a partner in the other crop: (H, W) of image 1 and (H2, W2) of image 2.

    A pixel of image 2 has one if a partner lies at most about a pixel from it.
    """
    height2, width2 = pair.image2.shape[1:]
    _, valid = sampling_grid(pair.aflow[None], height2, width2)
    mask1 = valid[0, 0]
    x, y = pair.aflow[:, mask1].round().long()
    hit = torch.zeros(height2, width2)
    hit[y, x] = 1
    mask2 = F.max_pool2d(hit[None], kernel_size=3, stride=1, padding=1)[0] > 0
    return mask1.numpy(), mask2.numpy()


def correspondences(pair: Pair, cells: int = CELLS) -> tuple[Tensor, Tensor]:
    """Picks points of image 1 and their partners in image 2, (N, 2) each, N at most cells * cells.

    Of each of cells x cells equal parts of image 1 the pixel nearest to its middle that has a partner.
    """
    mask = shared_parts(pair)[0]
    height, width = mask.shape
    found = []
    for row, column in np.ndindex(cells, cells):
        top, bottom = row * height // cells, (row + 1) * height // cells
        left, right = column * width // cells, (column + 1) * width // cells
        y, x = np.nonzero(mask[top:bottom, left:right])
        if len(x):
            middle = np.hypot(x - (right - left - 1) / 2, y - (bottom - top - 1) / 2)
            nearest = int(np.argmin(middle))
            found.append((left + x[nearest], top + y[nearest]))
    points = torch.tensor(found, dtype=torch.long).reshape(-1, 2)
    return points.float(), pair.aflow[:, points[:, 1], points[:, 0]].T


def _draw(sheet: Sheet, pair: Pair, left: int, top: int) -> None:
    mask1, mask2 = shared_parts(pair)
    share = (
        f"{mask1.mean():.0%} of crop 1 is in crop 2" if pair.valid else "no common windows: enters no loss"
    )
    end = sheet.text(pair.sample, left, top - 0.5 * sheet.text_size)
    sheet.text(share, end + sheet.text_size, top - 0.5 * sheet.text_size, colour=FAINT)
    panel1 = sheet.image(_shaded(pair.image1, mask1), left, top, _CROP_WIDTH)
    panel2 = sheet.image(_shaded(pair.image2, mask2), panel1.right + _GAP, top, _CROP_WIDTH)
    points1, points2 = (points.numpy() for points in correspondences(pair))
    colours = [_COLOURS[index % len(_COLOURS)] for index in range(len(points1))]
    sheet.lines(np.stack([panel1.place(points1), panel2.place(points2)], axis=1), colours, 1.2)
    for panel, points in ((panel1, points1), (panel2, points2)):
        sheet.dots(panel, points, ["white"] * len(points), 13)
        sheet.dots(panel, points, colours, 9)


def _shaded(image: Tensor, mask: npt.NDArray[np.bool_]) -> Bytes:
    pixels = denormalise(image)
    pale = (1 - _SHADE) * pixels + _SHADE * _SHADE_GREY
    return np.where(mask[..., None], pixels, pale.astype(np.uint8))
