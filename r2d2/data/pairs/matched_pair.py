"""Makes a training pair of two images of one scene whose correspondence is known.

The recipe rescales image 2, changes its colours, and crops both where the flow says that they show the same.
Here the windows are found by asking for the flow at the tried positions, and only they are resampled, once
each. Nothing is tilted, and no noise is added: the second image differs enough.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from r2d2.config import DataConfig
from r2d2.containers import Pair
from r2d2.data.images import ImageFile, OpenImage, open_image, refuse_nothing
from r2d2.data.normalisation import normalise_planes
from r2d2.data.pairs.photo_pair import THUMBNAIL, power_of_two
from r2d2.data.pairs.photometric import Jitter
from r2d2.data.pairs.plan import Size, resized, shorter_side
from r2d2.data.pairs.views import thumbnail, view
from r2d2.data.pairs.windows import DRAWS, Window, fallback_windows, find_windows
from r2d2.geometry import Array, resize_homography
from r2d2.warp import homography_aflow

Floats = npt.NDArray[np.float32]


class Correspondence(Protocol):
    """A Correspondence says where the pixels of image 1 lie in image 2."""

    def windows(
        self, size1: Size, size2: Size, resize2: Array, crop_size: int, rng: np.random.Generator
    ) -> tuple[Window, Window] | None:
        """Finds the best of five valid tries for two windows that show the same place; None if none is valid.

        Args:
            size1: (width, height) of image 1, pixels.
            size2: (width, height) of image 2 rescaled, pixels.
            resize2: (3, 3), from pixels of image 2 to pixels of image 2 rescaled.
            crop_size: side of the windows after resizing, pixels.
            rng: draws the tries.
        """

    def crop_aflow(self, window1: Window, crop_size: int) -> Floats:
        """Returns where each pixel of a crop of image 1 lies in image 2.

        Returns:
            (2, crop_size, crop_size) float32: x and y, pixels; NaN unknown.
        """


Match = Callable[[Size, Size], Correspondence]


@dataclass(frozen=True)
class HomographyMatch:
    """A HomographyMatch is a correspondence by one homography.

    Attributes:
        homography_1to2: (3, 3), from pixels of image 1 to pixels of image 2.
    """

    homography_1to2: Array

    def windows(
        self, size1: Size, size2: Size, resize2: Array, crop_size: int, rng: np.random.Generator
    ) -> tuple[Window, Window] | None:
        """Finds the windows as for photographs under a random homography; see `find_windows`.

        Args:
            size1: (width, height) of image 1, pixels.
            size2: (width, height) of image 2 rescaled, pixels.
            resize2: (3, 3), from pixels of image 2 to pixels of image 2 rescaled.
            crop_size: side of the windows after resizing, pixels.
            rng: draws the pixels that are tried.
        """
        draws = rng.random((DRAWS, 2))
        return find_windows(resize2 @ self.homography_1to2, size1, size2, crop_size, draws)

    def crop_aflow(self, window1: Window, crop_size: int) -> Floats:
        """Applies the homography to every pixel of a crop of image 1.

        Returns:
            (2, crop_size, crop_size) float32: x and y in image 2, pixels.
        """
        homography = self.homography_1to2 @ window1.from_crop(crop_size)
        aflow: Floats = homography_aflow(homography, crop_size, crop_size).numpy()
        return aflow


def make_matched_pair(
    first: ImageFile,
    second: ImageFile,
    match: Match,
    config: DataConfig,
    rng: np.random.Generator,
    sample: str,
) -> Pair:
    """Makes one pair of crop_size x crop_size pixels from two images.

    Args:
        first: image 1.
        second: image 2.
        match: gives what leads from one to the other, of images of these two sizes (width, height).
        config: the ranges of everything random, and the crop's size.
        rng: the only source of randomness.
        sample: what to call the pair in messages.

    Raises:
        ImageRefused: if an image, or what leads from one to the other, cannot be used.
    """
    side = config.crop_size
    with open_image(first) as image1, open_image(second) as image2:
        shorter, spare = rng.random(), rng.random((2, 2))
        jitter = Jitter.draw(config, rng)
        correspondence = match(image1.size, image2.size)
        size2 = resized(image2.size, shorter_side(shorter, config))
        resize2 = resize_homography(*image2.size, *size2)
        windows = correspondence.windows(image1.size, size2, resize2, side, rng)
        window1, window2 = windows or fallback_windows(image1.size, size2, side, spare)
        view1, _ = _views(image1, window1.from_crop(side), side, None)
        back = resize_homography(*size2, *image2.size)
        view2, whole = _views(image2, back @ window2.from_crop(side), side, (back, size2))
    assert whole is not None
    view2 = jitter.apply(view2.flatten(1), whole.flatten(1)).view_as(view2)
    aflow = torch.full((2, side, side), torch.nan)
    if windows is not None:
        to_crop2 = window2.to_crop(side) @ resize2
        # Resizing and cropping move x and y apart.
        found = correspondence.crop_aflow(window1, side)
        scale, shift = to_crop2.diagonal()[:2, None, None], to_crop2[:2, 2, None, None]
        aflow = torch.from_numpy((found * scale + shift).astype(np.float32))
    return Pair(normalise_planes(view1), normalise_planes(view2), aflow, sample)


def _views(
    image: OpenImage, crop_to_image: Array, side: int, rescaled: tuple[Array, Size] | None
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The crop of an image, and the pixels for the mean grey of the image rescaled, if that is asked for."""
    pixels, factor = image.decode(power_of_two(float(crop_to_image.diagonal()[:2].min())))
    refuse_nothing(pixels, image.path)
    to_pixels = resize_homography(factor, factor, 1, 1)
    shown = view(pixels, to_pixels @ crop_to_image, side)
    if rescaled is None:
        return shown, None
    return shown, thumbnail(pixels, to_pixels @ rescaled[0], rescaled[1], THUMBNAIL)
