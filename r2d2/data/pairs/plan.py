"""Decides everything random and geometric about a pair before any pixel is read."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from r2d2.config import DataConfig
from r2d2.data.pairs.photometric import Jitter
from r2d2.data.pairs.windows import DRAWS, Window, fallback_windows, find_windows
from r2d2.geometry import Array, invert, resize_homography, scaling, translation

TOP, RIGHT, BOTTOM, LEFT = range(4)

Size = tuple[int, int]


@dataclass(frozen=True)
class PairPlan:
    """A PairPlan says how a photograph becomes a pair: image 1 is resized, image 2 is tilted and resized.

    Attributes:
        photo: (width, height) of the photograph, pixels; image1, image2: likewise.
        homography_1to2: (3, 3), from pixels of image 1 to pixels of image 2.
        window1, window2: what is cropped from image 1 and image 2.
        found: whether the windows show a common place.
        jitter: the photometric change of image 2.
        crop_size: to which the windows are resized, pixels.
    """

    photo: Size
    image1: Size
    image2: Size
    homography_1to2: Array
    window1: Window
    window2: Window
    found: bool
    jitter: Jitter
    crop_size: int

    @cached_property
    def crop1_to_photo(self) -> Array:
        """Returns the homography (3, 3) float64 from pixels of the first crop to pixels of the photograph."""
        return resize_homography(*self.image1, *self.photo) @ self.window1.from_crop(self.crop_size)

    @cached_property
    def image2_to_photo(self) -> Array:
        """Returns the homography (3, 3) float64 from pixels of image 2 to pixels of the photograph."""
        return resize_homography(*self.image1, *self.photo) @ invert(self.homography_1to2)

    @cached_property
    def crop2_to_photo(self) -> Array:
        """Returns the homography (3, 3) float64 from pixels of the second crop to those of the photograph."""
        return self.image2_to_photo @ self.window2.from_crop(self.crop_size)

    @cached_property
    def crop1_to_crop2(self) -> Array:
        """Returns the homography (3, 3) float64 from pixels of the first crop to pixels of the second."""
        to_image2 = self.homography_1to2 @ self.window1.from_crop(self.crop_size)
        return self.window2.to_crop(self.crop_size) @ to_image2


def draw_plan(photo: Size, config: DataConfig, rng: np.random.Generator) -> PairPlan:
    """Draws a pair by the recipe, always with the same number of draws.

    Args:
        photo: (width, height) of the photograph, pixels.
        config: ranges of the draws.
        rng: draws.
    """
    shorter1, shorter2, side, growth = rng.random(4)
    tries, spare = rng.random((DRAWS, 2)), rng.random((2, 2))
    jitter = Jitter.draw(config, rng)
    image1 = resized(photo, shorter_side(shorter1, config))
    image2 = resized(image1, shorter_side(shorter2, config))
    tilt = tilt_homography(image1, *_tilt(image1, config.tilt, side, growth))
    homography_1to2 = resize_homography(*image1, *image2) @ tilt
    windows = find_windows(homography_1to2, image1, image2, config.crop_size, tries)
    window1, window2 = windows or fallback_windows(image1, image2, config.crop_size, spare)
    return PairPlan(
        photo,
        image1,
        image2,
        homography_1to2,
        window1,
        window2,
        windows is not None,
        jitter,
        config.crop_size,
    )


def resized(size: Size, shorter: float) -> Size:
    """Returns the size (width, height), whole pixels, of an image rescaled to a given shorter side."""
    factor = shorter / min(size)
    return round(size[0] * factor), round(size[1] * factor)


def tilt_homography(size: Size, side: int, growth: int) -> Array:
    """Returns the homography that tilts an image: one side of its frame grows at both ends, into a trapezium.

    Args:
        size: (width, height) of the image, pixels.
        side: TOP, RIGHT, BOTTOM or LEFT: which one grows.
        growth: by how much the side grows at each end, pixels.

    Returns:
        (3, 3) float64, pixel to pixel.
    """
    width, height = size
    axis = 1 if side in (TOP, BOTTOM) else 0
    ratio = 1 / (1 + 2 * growth / size[1 - axis])
    # In a frame from -1 to 1, with v across the growing side, which lies at v = -1: u' = u / d and
    # v' = (p v + q) / d, d = q v + p. So v = -1 and 1 stay; u grows by 1 / ratio at v = -1, not at v = 1.
    p, q = (1 + ratio) / 2, (1 - ratio) / 2
    if side in (RIGHT, BOTTOM):
        q = -q
    tilt = np.eye(3)
    tilt[[axis, axis, 2, 2], [axis, 2, axis, 2]] = (p, q, q, p)
    from_unit = translation((width - 1) / 2, (height - 1) / 2) @ scaling(width / 2, height / 2)
    to_unit = scaling(2 / width, 2 / height) @ translation((1 - width) / 2, (1 - height) / 2)
    return from_unit @ tilt @ to_unit


def shorter_side(draw: float, config: DataConfig) -> float:
    """Turns a draw in [0, 1) into a shorter side, pixels, log-uniform in its range."""
    low, high = config.min_shorter_side, config.max_shorter_side
    return float(low * (high / low) ** draw)


def _tilt(size: Size, tilt: float, side: float, growth: float) -> tuple[int, int]:
    """Two draws in [0, 1) become one of four sides and a growth in 1, ..., ceil(tilt * longer side)."""
    largest = math.ceil(tilt * max(size))
    return math.floor(4 * side), min(1 + math.floor(growth * largest), largest)
