"""Defines the values that travel between the parts; their shapes are stated and checked here, once.

Inner functions trust them. B images, H rows, W columns, D numbers per descriptor, N keypoints.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Pair:
    """A Pair is one training pair: two images and where the pixels of the first lie in the second.

    Attributes:
        image1, image2: (3, H, W) float32, RGB normalised by `normalise`.
        aflow: (2, H, W) float32; where pixel (x, y) of image 1 lies in image 2, (x, y) pixels; NaN unknown.
        sample: what it was made from, e.g. `photo.jpg epoch 3 pair 17`; names it in error messages.
        refused: (file, reason) of every photo that could not be used and was replaced while making this pair.
    """

    image1: Tensor
    image2: Tensor
    aflow: Tensor
    sample: str
    refused: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        _expect(self.image1, "image1", (3, None, None))
        _expect(self.image2, "image2", (3, None, None))
        _expect(self.aflow, "aflow", (2, *self.image1.shape[1:]))

    @property
    def valid(self) -> bool:
        """Says whether any pixel of image 1 has a known partner."""
        return bool(torch.isfinite(self.aflow).any())


class Deliverable(Protocol):
    """A Deliverable is B training pairs as the loader delivers them, perhaps before their pixels are made."""

    @property
    def samples(self) -> tuple[str, ...]:
        """Returns B names, for error messages."""

    @property
    def refused(self) -> tuple[tuple[str, str], ...]:
        """Returns (file, reason) of the photographs that were replaced."""

    def __len__(self) -> int: ...

    def pin_memory(self) -> Deliverable:
        """Copies the pairs to memory that a GPU reads from without waiting; needs a GPU."""

    def to(self, device: torch.device) -> PairBatch:
        """Returns the pairs, with their tensors on `device`."""


@dataclass(frozen=True)
class PairBatch:
    """A PairBatch is B training pairs of equal size.

    Attributes:
        image1, image2: (B, 3, H, W) float32, normalised RGB.
        aflow: (B, 2, H, W) float32, pixels of image 2; NaN unknown.
        samples: B names, for error messages.
        refused: (file, reason) of photos that were replaced.
    """

    image1: Tensor
    image2: Tensor
    aflow: Tensor
    samples: tuple[str, ...]
    refused: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        batch, _, height, width = _expect(self.image1, "image1", (None, 3, None, None))
        _expect(self.image2, "image2", (batch, 3, None, None))
        _expect(self.aflow, "aflow", (batch, 2, height, width))
        if len(self.samples) != batch:
            raise ValueError(f"{len(self.samples)} sample names for {batch} pairs")

    def __len__(self) -> int:
        return int(self.image1.shape[0])

    def to(self, device: torch.device) -> PairBatch:
        """Copies the pairs to `device`."""
        image1, image2, aflow = (
            t.to(device, non_blocking=True) for t in (self.image1, self.image2, self.aflow)
        )
        return PairBatch(image1, image2, aflow, self.samples, self.refused)

    def pin_memory(self) -> PairBatch:
        """Copies the pairs to memory that a GPU reads from without waiting; needs a GPU."""
        image1, image2, aflow = (
            t if t.is_cuda else t.pin_memory() for t in (self.image1, self.image2, self.aflow)
        )
        return PairBatch(image1, image2, aflow, self.samples, self.refused)


def collate(pairs: Sequence[Pair]) -> PairBatch:
    """Stacks pairs of equal size into a batch; there must be at least one."""
    return PairBatch(
        torch.stack([p.image1 for p in pairs]),
        torch.stack([p.image2 for p in pairs]),
        torch.stack([p.aflow for p in pairs]),
        tuple(p.sample for p in pairs),
        tuple(r for p in pairs for r in p.refused),
    )


@dataclass(frozen=True)
class DenseFeatures:
    """DenseFeatures are the three maps that the network computes of a batch of images.

    Attributes:
        descriptors: (B, D, H, W), unit length over D.
        reliability: (B, 1, H, W) in [0, 1].
        repeatability: (B, 1, H, W) in [0, 1).
    """

    descriptors: Tensor
    reliability: Tensor
    repeatability: Tensor

    def __post_init__(self) -> None:
        batch, _, height, width = _expect(self.descriptors, "descriptors", (None, None, None, None))
        _expect(self.reliability, "reliability", (batch, 1, height, width))
        _expect(self.repeatability, "repeatability", (batch, 1, height, width))


@dataclass(frozen=True)
class Keypoints:
    """Keypoints are those of one image, best first, with their descriptors and scores.

    Attributes:
        keypoints: (N, 3) float32: x, y in pixels of the original image, scale = patch diameter in pixels.
        descriptors: (N, D) float32, unit length.
        scores: (N,) float32, descending: reliability * repeatability.
        image_size: (width, height) of the original image in pixels.
    """

    keypoints: FloatArray
    descriptors: FloatArray
    scores: FloatArray
    image_size: tuple[int, int]

    def __post_init__(self) -> None:
        count = self.keypoints.shape[0]
        if self.keypoints.shape != (count, 3):
            raise ValueError(f"keypoints have shape {self.keypoints.shape}; it must be (N, 3)")
        if self.descriptors.ndim != 2 or self.descriptors.shape[0] != count:
            raise ValueError(f"descriptors have shape {self.descriptors.shape}; it must be ({count}, D)")
        if self.scores.shape != (count,):
            raise ValueError(f"scores have shape {self.scores.shape}; it must be ({count},)")

    def __len__(self) -> int:
        return int(self.keypoints.shape[0])


def _expect(tensor: Tensor, name: str, shape: tuple[int | None, ...]) -> torch.Size:
    if tensor.dim() != len(shape) or any(
        want is not None and want != got for want, got in zip(shape, tensor.shape, strict=True)
    ):
        wanted = ", ".join("*" if n is None else str(n) for n in shape)
        raise ValueError(f"{name} has shape {tuple(tensor.shape)}; it must be ({wanted})")
    return tensor.shape
