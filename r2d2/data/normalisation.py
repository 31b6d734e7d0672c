"""Turns pixels into what a network takes, and back."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import Tensor

from r2d2.data.images import Pixels
from r2d2.processor.to_device import copied

# ImageNet statistics of RGB in [0, 1], with which upstream's networks were trained.
MEAN = (0.485, 0.456, 0.406)


STD = (0.229, 0.224, 0.225)


def normalise(pixels: Pixels) -> Tensor:
    """Normalises pixels (H, W, 3) uint8 RGB to (3, H, W) float32: `(rgb / 255 - MEAN) / STD`."""
    # The copy is contiguous by channel, so that the arithmetic that follows is quick.
    planes = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))
    return normalise_planes(planes.to(torch.float32))


def normalise_planes(planes: Tensor) -> Tensor:
    """Normalises planes (..., 3, H, W) of RGB in [0, 255] in their own memory, as `normalise` does.

    Returns:
        the same planes, (..., 3, H, W) float.
    """
    mean, std = _statistics(planes.device)
    return planes.sub_(mean).div_(std)


def denormalise(image: Tensor) -> Pixels:
    """Inverts `normalise`: (3, H, W) float to (H, W, 3) uint8, rounded and clamped to [0, 255]."""
    mean, std = _statistics(image.device)
    planes = (image.detach() * std + mean).round().clamp(0, 255).to(torch.uint8)
    pixels: Pixels = planes.permute(1, 2, 0).cpu().numpy()
    return np.ascontiguousarray(pixels)


@cache
def _statistics(device: torch.device) -> tuple[Tensor, Tensor]:
    mean, std = (copied(torch.tensor(values).mul_(255).view(3, 1, 1), device) for values in (MEAN, STD))
    return mean, std
