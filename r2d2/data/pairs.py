"""A photograph becomes a training pair: two views of it under a known homography.

The recipe resizes, tilts and resizes the whole photograph and then crops. Here all random numbers are drawn
first, the two windows are found by geometry alone (`r2d2.data.plan`), and only they are resampled, once each.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch

from r2d2.config import DataConfig
from r2d2.containers import Pair
from r2d2.data.images import normalise_planes, open_image
from r2d2.data.noise import noise_field
from r2d2.data.photometric import WHITE
from r2d2.data.plan import PairPlan, draw_plan
from r2d2.data.views import least_shrink, thumbnail, view
from r2d2.geometry import homography_aflow, resize_homography

# The mean grey of the whole image 2, on which contrast turns, is that of THUMBNAIL x THUMBNAIL of its pixels.
THUMBNAIL = 32

_MAX_DECODER_SHRINK = 8


def make_pair(path: Path, config: DataConfig, rng: np.random.Generator, sample: str = "") -> Pair:
    """Makes one pair of crop_size x crop_size pixels from a photograph.

    The flow is the homography at every pixel, known (finite) also where the partner lies outside the second
    crop. If no try finds common windows, it is NaN everywhere and the images are windows at random places.

    Args:
        path: the photograph.
        config: the ranges of everything random, and the crop's size.
        rng: the only source of randomness.
        sample: what to call the pair in messages; the file's name by default.

    Raises:
        ImageRefused: if the photograph cannot be used.
    """
    with open_image(path) as photo:
        plan = draw_plan(photo.size, config, rng)
        image, factor = photo.decode(_welcome_shrink(plan))
    side, to_image = plan.crop_size, resize_homography(factor, factor, 1, 1)
    view1 = view(image, to_image @ plan.crop1_to_photo, side)
    view2 = view(image, to_image @ plan.crop2_to_photo, side)
    if config.noise > 0:
        noise = noise_field(rng, plan.image1, plan.image2, plan.window2, side, config.noise)
        view2 = view2.add_(noise).clamp_(0, WHITE)
    whole = thumbnail(image, to_image @ plan.image2_to_photo, plan.image2, THUMBNAIL)
    view2 = plan.jitter.apply(view2.flatten(1), whole.flatten(1)).view_as(view2)
    aflow = homography_aflow(plan.crop1_to_crop2, side, side)
    if not plan.found:
        aflow.fill_(torch.nan)
    return Pair(normalise_planes(view1), normalise_planes(view2), aflow, sample or path.name)


def _welcome_shrink(plan: PairPlan) -> int:
    """By how much (1, 2, 4 or 8) the decoder may shrink the photo: both crops shrink it at least as much."""
    # The first crop is a rectangle of the photo: its shrinking is plain to see.
    least = plan.crop1_to_photo.diagonal()[:2].min()
    if least >= 2:
        least = min(least, least_shrink(plan.crop2_to_photo, plan.crop_size))
    return min(1 << int(math.log2(max(least, 1))), _MAX_DECODER_SHRINK)
