"""Samples maps where flow or a homography leads, in tensors. The conventions are those of `r2d2.geometry`."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from r2d2.geometry import Array, map_positions, scaling, translation
from r2d2.processor.arithmetic import in_fixed_order
from r2d2.processor.to_device import constant

# In units of a sampling grid: so far outside any image that no bilinear weight reaches it.
FAR_OUTSIDE = 1e4


def pixel_grid(height: int, width: int, device: torch.device | None = None) -> Tensor:
    """Returns the position of every pixel: (2, H, W) float32, x then y."""
    y, x = torch.meshgrid(
        torch.arange(height, dtype=torch.float32, device=device),
        torch.arange(width, dtype=torch.float32, device=device),
        indexing="ij",
    )
    return torch.stack([x, y])


def homography_aflow(homography: Array, height: int, width: int) -> Tensor:
    """Maps every pixel of an H x W image: (2, H, W) float32, x and y in image 2, NaN behind the horizon.

    Args:
        homography: (3, 3), from pixels of image 1 to pixels of image 2.
        height: H, pixels.
        width: W, pixels.
    """
    x, y = np.arange(width, dtype=np.float64), np.arange(height, dtype=np.float64)
    aflow = np.empty((2, height, width), dtype=np.float32)
    aflow[0], aflow[1] = map_positions(homography, x, y[:, None])
    return torch.from_numpy(aflow)


def homography_grid(homography: Array, height: int, width: int, height2: int, width2: int) -> Tensor:
    """Makes the grid for `grid_sample(..., align_corners=True)` that shows image 2 through a homography.

    Computed in float32: exact to about 1e-6 of the image's side.

    Args:
        homography: (3, 3), from pixels of the result to pixels of image 2.
        height: of the result, pixels.
        width: of the result, pixels.
        height2: of image 2, pixels.
        width2: of image 2, pixels.

    Returns:
        (1, H, W, 2) float32; NaN behind the horizon.
    """
    to_grid = translation(-1, -1) @ scaling(2 / max(width2 - 1, 1), 2 / max(height2 - 1, 1))
    x, y = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)
    grid = np.empty((1, height, width, 2), dtype=np.float32)
    grid[0, ..., 0], grid[0, ..., 1] = map_positions(to_grid @ homography, x, y[:, None])
    return torch.from_numpy(grid)


def sampling_grid(aflow: Tensor, height2: int, width2: int) -> tuple[Tensor, Tensor]:
    """Makes the grid for `grid_sample(..., align_corners=True)` on image 2, and says what lies in image 2.

    Args:
        aflow: (B, 2, H, W), pixels of image 2, NaN unknown.
        height2: of image 2, pixels.
        width2: of image 2, pixels.

    Returns:
        grid: (B, H, W, 2), finite; unknown positions lie far outside image 2.
        valid: (B, 1, H, W) bool; known and in [0, width2 - 1] x [0, height2 - 1].
    """
    last = constant((width2 - 1, height2 - 1), aflow.dtype, aflow.device).view(1, 2, 1, 1)
    # Comparisons with NaN are false.
    valid = ((aflow >= 0) & (aflow <= last)).all(dim=1, keepdim=True)
    grid = aflow * (2 / last.clamp(min=1)) - 1
    grid = torch.nan_to_num(grid, nan=-FAR_OUTSIDE).clamp(-FAR_OUTSIDE, FAR_OUTSIDE)
    return grid.permute(0, 2, 3, 1), valid


def warp(map2: Tensor, aflow: Tensor) -> tuple[Tensor, Tensor]:
    """Samples a map of image 2 as image 1 sees it, bilinearly.

    Args:
        map2: (B, C, H2, W2).
        aflow: (B, 2, H, W), pixels of map 2, NaN unknown.

    Returns:
        warped: (B, C, H, W), 0 where not valid.
        valid: (B, 1, H, W) bool, as of `sampling_grid`.
    """
    dtype = torch.promote_types(map2.dtype, aflow.dtype)
    grid, valid = sampling_grid(aflow.to(dtype), *map2.shape[2:])
    if in_fixed_order(map2):
        warped = sample_in_fixed_order(map2.to(dtype), grid)
    else:
        warped = F.grid_sample(
            map2.to(dtype), grid, mode="bilinear", padding_mode="zeros", align_corners=True
        )
    return torch.where(valid, warped, torch.zeros_like(warped)), valid


def sample_in_fixed_order(maps: Tensor, grid: Tensor) -> Tensor:
    """Samples maps as `grid_sample(..., align_corners=True)` with zeros outside, by gathering pixels.

    PyTorch's own gradient on a GPU adds in another order each time; that of indexing can add in a fixed one.

    Args:
        maps: (B, C, H, W) float.
        grid: (B, H2, W2, 2), finite, x and y; -1 and 1 are the centres of the first and the last pixel.

    Returns:
        (B, C, H2, W2), up to rounding what `grid_sample` returns; its gradient goes to the maps alone.
    """
    height, width = maps.shape[2:]
    x, y = (grid[..., 0] + 1) * ((width - 1) / 2), (grid[..., 1] + 1) * ((height - 1) / 2)
    left, top = x.floor(), y.floor()
    rows = maps.permute(0, 2, 3, 1).flatten(0, 2)
    first = torch.arange(len(maps), device=maps.device).view(-1, 1, 1) * (height * width)
    total = maps.new_zeros(*grid.shape[:3], maps.shape[1])
    for column, row in ((left, top), (left + 1, top), (left, top + 1), (left + 1, top + 1)):
        inside = (column >= 0) & (column <= width - 1) & (row >= 0) & (row <= height - 1)
        weight = ((1 - (x - column).abs()) * (1 - (y - row).abs())).where(inside, x.new_zeros(()))
        at = row.clamp(0, height - 1).long() * width + column.clamp(0, width - 1).long()
        total = total + rows[first + at] * weight[..., None]
    return total.permute(0, 3, 1, 2)
