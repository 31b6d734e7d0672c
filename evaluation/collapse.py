"""Looks for signs of collapse in a scored network: its scores alone may look almost normal."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import torch

from r2d2.collapse import TELLING, CollapseSigns
from r2d2.data.normalisation import normalise
from r2d2.network import R2D2Network
from r2d2.processor.to_device import copied
from r2d2.training.collapse_signs import measure_signs

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
            middles = (copied(normalise(_middle(image)), device) for image in images)
            signs = [measure_signs(network(middle[None])) for middle in middles]
            telling = [torch.stack([found[name] for name in TELLING]) for found in signs]
            values = torch.stack(telling).tolist()
    finally:
        network.train(was_training)
    means = (float(np.mean(of_images)) for of_images in zip(*values, strict=True))
    return CollapseSigns(**dict(zip(TELLING, means, strict=True)))


def _middle(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    top, left = (max(0, (side - CROP) // 2) for side in image.shape[:2])
    return np.ascontiguousarray(image[top : top + CROP, left : left + CROP])
