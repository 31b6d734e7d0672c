"""Looks for signs of collapse in a scored network: its scores alone may look almost normal."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import torch

from r2d2.collapse import CollapseSigns
from r2d2.data.normalisation import normalise
from r2d2.network import R2D2Network
from r2d2.processor.to_device import copied
from r2d2.training import collapse_signs as maps

# A part of an image is enough, and costs less than one of the images that are matched.
CROP = 256


def collapse_signs(network: R2D2Network, images: Iterable[npt.NDArray[np.uint8]]) -> CollapseSigns:
    """Looks at the maps in the middle of each image, at most 256 x 256 pixels, at their own scale.

    Args:
        network: left in the mode it was in.
        images: each (H, W, 3) uint8 RGB; at least one.
    """
    device = next(network.parameters()).device
    was_training = network.training
    network.eval()
    try:
        with torch.inference_mode():
            signs = [
                maps.collapse_signs(network(copied(normalise(_middle(image)), device)[None]))
                for image in images
            ]
    finally:
        network.train(was_training)
    return CollapseSigns(
        repeatability_std=float(np.mean([s["collapse_repeatability_std"] for s in signs])),
        mean_reliability=float(np.mean([s["collapse_mean_reliability"] for s in signs])),
    )


def _middle(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    top, left = (max(0, (side - CROP) // 2) for side in image.shape[:2])
    return np.ascontiguousarray(image[top : top + CROP, left : left + CROP])
