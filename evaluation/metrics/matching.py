"""Matches mutual nearest neighbours: the descriptors of two images that choose each other."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from r2d2.containers import FloatArray
from r2d2.processor.to_device import copied

IndexPairs = npt.NDArray[np.int64]

# Dot products held at once: few enough rows to stay in the processor's cache, and never more than 64 MiB.
BLOCK_ROWS = 512
BLOCK_BYTES = 64 * 2**20
# On a GPU: one part in so many of its memory, in as few blocks as that allows.
MEMORY_SHARE = 64


def mutual_nearest_neighbours(
    descriptors1: FloatArray | Tensor, descriptors2: FloatArray | Tensor, device: torch.device | None = None
) -> IndexPairs:
    """Finds the descriptors that are each other's nearest by dot product, exactly, in float32.

    Of equal dot products the one with the lower index is nearest, so that the result is the same each time.
    Memory beyond the descriptors stays below 256 MiB whatever their number, on a GPU below a 32nd of its own.
    A GPU is waited for once, for the result.

    Args:
        descriptors1: (N, D), unit length.
        descriptors2: (M, D), unit length.
        device: where to compute; by default where `descriptors1` is.

    Returns:
        matches: (K, 2), indices into `descriptors1` and `descriptors2`, ascending; K may be 0.

    Raises:
        ValueError: if the shapes do not fit each other.
    """
    first, second = _tensor(descriptors1), _tensor(descriptors2)
    if first.dim() != 2 or second.dim() != 2 or first.shape[1] != second.shape[1]:
        raise ValueError(
            f"descriptors have shapes {tuple(first.shape)} and {tuple(second.shape)}; "
            "they must be (N, D) and (M, D)"
        )
    if not len(first) or not len(second):
        return np.empty((0, 2), dtype=np.int64)
    target = first.device if device is None else device
    first, second = (copied(descriptors.to(torch.float32), target) for descriptors in (first, second))
    with torch.inference_mode():
        nearest = torch.cat(_nearest(first, second)).cpu()
        nearest2, nearest1 = nearest[: len(first)], nearest[len(first) :]
        index1 = torch.arange(len(first))
        mutual = nearest1[nearest2] == index1
        matches = torch.stack([index1[mutual], nearest2[mutual]], dim=1)
    return np.asarray(matches.numpy(), dtype=np.int64)


def _tensor(descriptors: FloatArray | Tensor) -> Tensor:
    if isinstance(descriptors, Tensor):
        return descriptors
    # Arrays out of shared memory are read-only, and a tensor cannot be.
    return torch.from_numpy(descriptors if descriptors.flags.writeable else descriptors.copy())


def _nearest(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """For each row of `first` the nearest of `second` (N,), and the other way round (M,)."""
    rows = _block_rows(len(second), first.device)
    nearest2 = torch.empty(len(first), dtype=torch.int64, device=first.device)
    nearest1 = torch.zeros(len(second), dtype=torch.int64, device=first.device)
    best = torch.full((len(second),), -torch.inf, device=first.device)
    for start in range(0, len(first), rows):
        products = first[start : start + rows] @ second.T
        nearest2[start : start + rows] = products.max(dim=1).indices
        values, indices = products.max(dim=0)
        # Strictly: of equal products the earlier block keeps its place.
        better = values > best
        best = values.where(better, best)
        nearest1 = (indices + start).where(better, nearest1)
    return nearest2, nearest1


def _block_rows(columns: int, device: torch.device) -> int:
    """How many rows of so many dot products are held at once; at least one."""
    if device.type == "cpu":
        return max(1, min(BLOCK_ROWS, BLOCK_BYTES // (4 * columns)))
    memory = torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else 2**35
    return max(1, memory // MEMORY_SHARE // (4 * columns))
