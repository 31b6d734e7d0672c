"""A photograph becomes a training pair: two views of it under a known homography.

The recipe resizes, tilts and resizes the whole photograph and then crops. Here all random numbers are drawn
first, the two windows are found by geometry alone (`r2d2.data.plan`), and only they are resampled, once each.
"""

from __future__ import annotations

import math
from pathlib import PurePath

import numpy as np
import torch

from r2d2.config import DataConfig
from r2d2.containers import Pair
from r2d2.data.images import ImageFile, OpenImage, Pixels, normalise_planes, open_image
from r2d2.data.noise import noise_field
from r2d2.data.photometric import WHITE
from r2d2.data.plan import PairPlan, draw_plan
from r2d2.data.views import least_shrink, thumbnail, view
from r2d2.geometry import Array, homography_aflow, resize_homography

# The mean grey of the whole image 2, on which contrast turns, is that of THUMBNAIL x THUMBNAIL of its pixels.
THUMBNAIL = 32

_MAX_DECODER_SHRINK = 8


def make_pair(
    path: ImageFile,
    config: DataConfig,
    rng: np.random.Generator,
    sample: str = "",
    second: ImageFile | None = None,
) -> Pair:
    """Makes one pair of crop_size x crop_size pixels from a photograph.

    The flow is the homography at every pixel, known (finite) also where the partner lies outside the second
    crop. If no try finds common windows, it is NaN everywhere and the images are windows at random places.

    Args:
        path: the photograph.
        config: the ranges of everything random, and the crop's size.
        rng: the only source of randomness.
        sample: what to call the pair in messages; the file's name by default.
        second: another picture of the same view, of any size, for image 2; the photograph itself by default.

    Raises:
        ImageRefused: if a photograph cannot be used.
    """
    with open_image(path) as photo:
        plan = draw_plan(photo.size, config, rng)
        to_second = np.eye(3)
        if second is None:
            pixels, to_pixels = _decode(photo, _welcome_shrink(plan))
            pixels2, to_pixels2 = pixels, to_pixels
        else:
            pixels, to_pixels = _decode(photo, power_of_two(_shrink1(plan)))
            pixels2, to_pixels2, to_second = _decode_second(second, plan)
    side = plan.crop_size
    view1 = view(pixels, to_pixels @ plan.crop1_to_photo, side)
    view2 = view(pixels2, to_pixels2 @ to_second @ plan.crop2_to_photo, side)
    if config.noise > 0:
        noise = noise_field(rng, plan.image1, plan.image2, plan.window2, side, config.noise)
        view2 = view2.add_(noise).clamp_(0, WHITE)
    whole = thumbnail(pixels2, to_pixels2 @ to_second @ plan.image2_to_photo, plan.image2, THUMBNAIL)
    view2 = plan.jitter.apply(view2.flatten(1), whole.flatten(1)).view_as(view2)
    aflow = homography_aflow(plan.crop1_to_crop2, side, side)
    if not plan.found:
        aflow.fill_(torch.nan)
    name = sample or PurePath(str(path)).name
    return Pair(normalise_planes(view1), normalise_planes(view2), aflow, name)


def power_of_two(shrink: float) -> int:
    """By how much (1, 2, 4 or 8) the decoder may shrink what is shrunk by `shrink` anyway."""
    return min(1 << int(math.log2(max(shrink, 1))), _MAX_DECODER_SHRINK)


def _decode(photo: OpenImage, shrink: int) -> tuple[Pixels, Array]:
    """The pixels, perhaps shrunk, and the way to them from pixels of the photograph."""
    pixels, factor = photo.decode(shrink)
    return pixels, resize_homography(factor, factor, 1, 1)


def _decode_second(second: ImageFile, plan: PairPlan) -> tuple[Pixels, Array, Array]:
    """The pixels of the second picture; the ways to them from its own, and to those from the photo's."""
    with open_image(second) as picture:
        to_second = resize_homography(*plan.photo, *picture.size)
        least = least_shrink(to_second @ plan.crop2_to_photo, plan.crop_size)
        return *_decode(picture, power_of_two(least)), to_second


def _shrink1(plan: PairPlan) -> float:
    """By how much the first crop shrinks the photo at least: it is a rectangle of it."""
    return float(plan.crop1_to_photo.diagonal()[:2].min())


def _welcome_shrink(plan: PairPlan) -> int:
    """By how much (1, 2, 4 or 8) the decoder may shrink the photo: both crops shrink it at least as much."""
    least = _shrink1(plan)
    if least >= 2:
        least = min(least, least_shrink(plan.crop2_to_photo, plan.crop_size))
    return power_of_two(least)
