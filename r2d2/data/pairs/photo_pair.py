"""Makes a training pair of one photograph: two views of it under a known homography.

The recipe resizes, tilts and resizes the whole photograph and then crops. Here all random numbers are drawn
first, the two windows are found by geometry alone (`r2d2.data.pairs.plan`), and only they are resampled, once
each.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import PurePath

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from r2d2.config import DataConfig
from r2d2.containers import Pair
from r2d2.data.images import ImageFile, OpenImage, open_image, refuse_nothing
from r2d2.data.normalisation import normalise_planes
from r2d2.data.pairs.noise import noise_field
from r2d2.data.pairs.photometric import WHITE
from r2d2.data.pairs.plan import PairPlan, draw_plan
from r2d2.data.pairs.views import least_shrink, thumbnail, view
from r2d2.geometry import Array, resize_homography
from r2d2.warp import homography_aflow

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
    seen = look(path, config, rng, second)
    plan, side = seen.plan, seen.plan.crop_size
    view1 = view(seen.image1, seen.to_image1 @ plan.crop1_to_photo, side)
    view2 = view(seen.image2, seen.to_image2 @ plan.crop2_to_photo, side)
    if config.noise > 0:
        noise = noise_field(rng, plan.image1, plan.image2, plan.window2, side, config.noise)
        view2 = view2.add_(noise).clamp_(0, WHITE)
    view2 = plan.jitter.apply(view2.flatten(1), seen.thumbnail().flatten(1)).view_as(view2)
    aflow = homography_aflow(plan.crop1_to_crop2, side, side)
    if not plan.found:
        aflow.fill_(torch.nan)
    name = sample or PurePath(str(path)).name
    return Pair(normalise_planes(view1), normalise_planes(view2), aflow, name)


@dataclass(frozen=True)
class Seen:
    """A Seen holds a photograph that was decoded for a pair, and the plan of that pair.

    Attributes:
        plan: everything random but the noise.
        image1, image2: RGB, what image 1 and image 2 are made of; usually the same.
        to_image1, to_image2: (3, 3), from pixels of the photograph to pixels of these.
    """

    plan: PairPlan
    image1: Image.Image
    image2: Image.Image
    to_image1: Array
    to_image2: Array

    def thumbnail(self) -> Tensor:
        """Picks pixels from all over image 2: (3, THUMBNAIL, THUMBNAIL) float32 in [0, 255]."""
        way = self.to_image2 @ self.plan.image2_to_photo
        return thumbnail(self.image2, way, self.plan.image2, THUMBNAIL)


def look(
    path: ImageFile, config: DataConfig, rng: np.random.Generator, second: ImageFile | None = None
) -> Seen:
    """Draws a pair and decodes what it is made of; arguments and errors are those of `make_pair`."""
    with open_image(path) as photo:
        plan = draw_plan(photo.size, config, rng)
        if second is None:
            image, to_image = _decode(photo, _welcome_shrink(plan))
            return Seen(plan, image, image, to_image, to_image)
        image, to_image = _decode(photo, power_of_two(_shrink1(plan)))
        image2, to_image2 = _decode_second(second, plan)
        return Seen(plan, image, image2, to_image, to_image2)


def power_of_two(shrink: float) -> int:
    """Returns how much (1, 2, 4 or 8) the decoder may shrink what is shrunk by `shrink` anyway."""
    return min(1 << int(math.log2(max(shrink, 1))), _MAX_DECODER_SHRINK)


def _decode(photo: OpenImage, shrink: int) -> tuple[Image.Image, Array]:
    """The image, perhaps shrunk, and the way to its pixels from those of the photograph."""
    image, factor = photo.decode(shrink)
    refuse_nothing(image, photo.path)
    return image, resize_homography(factor, factor, 1, 1)


def _decode_second(second: ImageFile, plan: PairPlan) -> tuple[Image.Image, Array]:
    """The second picture, perhaps shrunk, and the way to its pixels from those of the photograph."""
    with open_image(second) as picture:
        to_second = resize_homography(*plan.photo, *picture.size)
        least = least_shrink(to_second @ plan.crop2_to_photo, plan.crop_size)
        image, to_image = _decode(picture, power_of_two(least))
        return image, to_image @ to_second


def _shrink1(plan: PairPlan) -> float:
    """By how much the first crop shrinks the photo at least: it is a rectangle of it."""
    return float(plan.crop1_to_photo.diagonal()[:2].min())


def _welcome_shrink(plan: PairPlan) -> int:
    """By how much (1, 2, 4 or 8) the decoder may shrink the photo: both crops shrink it at least as much."""
    least = _shrink1(plan)
    if least >= 2:
        least = min(least, least_shrink(plan.crop2_to_photo, plan.crop_size))
    return power_of_two(least)
