"""Defines ImageMaps: how a network sees one image, small enough to be kept of every epoch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from evaluation.pictures.examples import MatchExample, pack, unpacked
from r2d2.containers import FloatArray
from r2d2.data.images import MIN_SIDE
from r2d2.data.normalisation import normalise
from r2d2.geometry import apply_homography, resize_homography
from r2d2.network import R2D2Network
from r2d2.processor.arithmetic import IEEE, float32_as

Bytes = npt.NDArray[np.uint8]

# Longer side of the maps that are kept of every epoch, pixels: enough to see what changes.
KEPT_SIDE = 384

_ARRAYS = ("image", "reliability", "repeatability", "keypoints")


@dataclass(frozen=True, eq=False)
class ImageMaps:
    """An ImageMaps holds an image, a network's two maps of its pixels, and the keypoints found with them.

    Attributes:
        name: what the image is called.
        image: (H, W, 3) uint8 RGB, perhaps smaller than the original.
        reliability, repeatability: (H, W) uint8, 255 stands for 1.
        keypoints: (N, 2) or (N, 3) float32, best first: x, y and, if known, the patch diameter, all in pixels
            of `image`.
    """

    name: str
    image: Bytes
    reliability: Bytes
    repeatability: Bytes
    keypoints: FloatArray


def image_maps(
    network: R2D2Network, image: Bytes, keypoints: FloatArray, name: str, max_side: int = KEPT_SIDE
) -> ImageMaps:
    """Computes the maps of an image at one scale: its own, or that of the image shrunk to `max_side`.

    Args:
        network: used in eval mode, on the device where it is; left in the mode it was in.
        image: (H, W, 3) uint8 RGB.
        keypoints: (N, 2) or (N, 3): x, y and perhaps the patch diameter, pixels of `image`.
        name: what the image is called.
        max_side: of the result, pixels; a narrow image stays `images.MIN_SIDE` pixels wide all the same.
    """
    height, width = image.shape[:2]
    factor = max(max_side / max(height, width), MIN_SIDE / min(height, width))
    small = _resized(image, min(factor, 1.0))
    reliability, repeatability = _maps(network, small)
    return ImageMaps(name, small, reliability, repeatability, _moved(keypoints, image, small))


def example_maps(network: R2D2Network, examples: Iterable[MatchExample]) -> tuple[ImageMaps, ...]:
    """Computes the maps of one image of each example; its keypoints are those that were scored.

    It is image 1, or image k if image 1 was shown already: a validation benchmark has two sequences of each
    photograph.
    """
    maps: list[ImageMaps] = []
    firsts: list[Bytes] = []
    for example in examples:
        image, keypoints, number = example.image1, example.keypoints1, 1
        if any(np.array_equal(image, first) for first in firsts):
            image, keypoints, number = example.image2, example.keypoints2, example.image
        else:
            firsts.append(image)
        maps.append(image_maps(network, image, keypoints, f"{example.sequence} {number}"))
    return tuple(maps)


def pack_maps(maps: Sequence[ImageMaps]) -> bytes:
    """Packs the maps of some images into a numpy archive."""
    arrays: dict[str, npt.NDArray[np.generic]] = {"names": np.array([m.name for m in maps], dtype=np.str_)}
    for index, seen in enumerate(maps):
        arrays |= {f"{index}/{name}": getattr(seen, name) for name in _ARRAYS}
    return pack(arrays)


def unpack_maps(content: bytes, where: str) -> tuple[ImageMaps, ...]:
    """Reads the maps in an archive of `pack_maps`.

    Args:
        content: the archive.
        where: it lies, for errors.

    Raises:
        ValueError: if the file holds something else.
    """
    with unpacked(content, f"{where} holds no maps of images") as arrays:
        return tuple(
            ImageMaps(str(name), **{key: arrays[f"{index}/{key}"] for key in _ARRAYS})
            for index, name in enumerate(arrays["names"])
        )


def _resized(image: Bytes, factor: float) -> Bytes:
    if factor == 1:
        return image
    height, width = image.shape[:2]
    size = (round(width * factor), round(height * factor))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS))


def _maps(network: R2D2Network, image: Bytes) -> tuple[Bytes, Bytes]:
    """Computes reliability and repeatability of every pixel."""
    device = next(network.parameters()).device
    was_training = network.training
    network.eval()
    try:
        with torch.inference_mode(), float32_as(IEEE, device):
            features = network(normalise(image).to(device)[None])
    finally:
        network.train(was_training)
    height, width = image.shape[:2]
    first, second = (_bytes(m, height, width) for m in (features.reliability, features.repeatability))
    return first, second


def _bytes(values: Tensor, height: int, width: int) -> Bytes:
    """A map (1, 1, h, w) in [0, 1] as (H, W) bytes; the row and column that `fast` lacks repeat the last."""
    steps = torch.nan_to_num(values[0, 0] * 255).round().clamp(0, 255).to(torch.uint8).cpu().numpy()
    return np.pad(steps, ((0, height - steps.shape[0]), (0, width - steps.shape[1])), mode="edge")


def _moved(keypoints: FloatArray, image: Bytes, small: Bytes) -> FloatArray:
    """Keypoints of an image in pixels of the same image resized."""
    (height, width), (new_height, new_width) = image.shape[:2], small.shape[:2]
    moved = keypoints.astype(np.float32)
    resize = resize_homography(width, height, new_width, new_height)
    moved[:, :2] = apply_homography(resize, keypoints[:, :2])
    moved[:, 2:] *= new_width / width
    return moved
