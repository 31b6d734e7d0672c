"""Keypoints of one image: dense maps of a pyramid of its scales, local maxima, the best k, and their file.

After the extraction of Revaud et al. (NeurIPS 2019), with float32 arithmetic and no short cut.
"""

from __future__ import annotations

import dataclasses
import math
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from r2d2.atomic import atomic_file
from r2d2.config import setting
from r2d2.containers import DenseFeatures, Keypoints
from r2d2.network import MIN_SIDE, R2D2Network

PATCH_DIAMETER = 32.0
"""Pixels of a level that a keypoint stands for; in the image they are PATCH_DIAMETER / scale."""

SCALE_TOLERANCE = 0.001
"""Slack of the comparisons of scales with their bounds."""


@dataclass(frozen=True)
class ExtractionSettings:
    """Which scales of an image are searched, and which local maxima become keypoints.

    A level of scale s = 1, 1 / scale_factor, 1 / scale_factor^2, ... is searched if, up to SCALE_TOLERANCE,
    max(min_scale, min_size / longer side) <= s <= min(max_scale, max_size / longer side).
    An image is never enlarged, so one whose longer side is below min_size has no level and no keypoints.
    """

    top_k: int | None = setting(5000, "keep this many best keypoints of all levels; none: all", low=1)
    min_size: int = setting(256, "smallest longer side of a level, pixels", low=0)
    max_size: int = setting(1024, "largest longer side of a level, pixels", low=1)
    min_scale: float = setting(0.0, "smallest scale of a level", low=0, high=1)
    max_scale: float = setting(1.0, "largest scale of a level", low=0, high=1)
    scale_factor: float = setting(2**0.25, "ratio of the scales of two consecutive levels", low=1.01)
    min_reliability: float = setting(0.7, "smallest reliability of a keypoint", low=0, high=1)
    min_repeatability: float = setting(0.7, "smallest repeatability of a keypoint", low=0, high=1)

    def __post_init__(self) -> None:
        """Refuses values of the wrong type or range.

        Raises:
            ValueError: names the setting, the value and what is allowed.
        """
        for field in dataclasses.fields(self):
            if field.name != "top_k" or self.top_k is not None:
                _check_setting(field, getattr(self, field.name))
        for low, high in (("min_size", "max_size"), ("min_scale", "max_scale")):
            if getattr(self, low) > getattr(self, high):
                raise ValueError(
                    f"{low} ({getattr(self, low)}) is larger than {high} ({getattr(self, high)})"
                )

    def full_resolution(self) -> ExtractionSettings:
        """The same settings without bounds on the size, down to 0.3 of it."""
        return dataclasses.replace(self, min_size=0, max_size=9999, min_scale=0.3, max_scale=1.0)


@dataclass(frozen=True)
class _Candidates:
    """Keypoints of one level as in `Keypoints`, on the network's device."""

    keypoints: Tensor
    descriptors: Tensor
    scores: Tensor


def extract_keypoints(network: R2D2Network, image: Tensor, settings: ExtractionSettings) -> Keypoints:
    """The keypoints of one image, best first.

    Of equal scores, larger scales come first, then upper rows, then left columns; so does the cut at `top_k`.
    Where a map is not a number, there is no keypoint.

    Args:
        network: used in eval mode; each of its modules gets its mode back.
        image: (3, H, W), RGB normalised by `images.normalise`, any device; H and W at least network.MIN_SIDE.
        settings: scales and thresholds.

    Raises:
        ValueError: if the image has another shape or is too small.
    """
    if image.dim() != 3 or image.shape[0] != 3:
        raise ValueError(f"image has shape {tuple(image.shape)}; it must be (3, H, W)")
    height, width = image.shape[1:]
    if min(height, width) < MIN_SIDE:
        raise ValueError(f"the image is {width} x {height} pixels; the smallest is {MIN_SIDE} x {MIN_SIDE}")
    device = next(network.parameters()).device
    with torch.inference_mode(), _evaluating(network), full_precision(device):
        batch = image.to(device=device, dtype=torch.float32)[None]
        found = [_nothing(network.config.dim, device)]
        for scale, level in _pyramid(batch, settings):
            found.append(_candidates(network(level), level, scale, (height, width), settings))
        scores = torch.cat([f.scores for f in found])
        best = _best(scores, settings.top_k)
        return Keypoints(
            keypoints=_array(torch.cat([f.keypoints for f in found])[best]),
            descriptors=_array(torch.cat([f.descriptors for f in found])[best]),
            scores=_array(scores[best]),
            image_size=(width, height),
        )


def arithmetic(settings: ExtractionSettings, device: torch.device) -> str:  # noqa: ARG001
    """Which arithmetic `extract_keypoints` uses for these settings on this device, e.g. `float32`.

    Part of the name under which results are stored: those of different arithmetic differ a little.
    """
    return "float32"


def save_keypoints(path: Path, keypoints: Keypoints) -> None:
    """Writes keypoints as a numpy archive, in the layout of the R2D2 authors' `.r2d2` files; atomic.

    `imsize` (width, height), `keypoints` (N, 3), `descriptors` (N, D), `scores` (N,), by ascending score.
    """
    with atomic_file(path) as file:
        np.savez(
            file,
            imsize=np.array(keypoints.image_size, dtype=np.int64),
            keypoints=keypoints.keypoints[::-1].astype(np.float32),
            descriptors=keypoints.descriptors[::-1].astype(np.float32),
            scores=keypoints.scores[::-1].astype(np.float32),
        )


def load_keypoints(path: Path) -> Keypoints:
    """Reads what `save_keypoints` wrote, or another tool in its layout; best first. Unpickles nothing.

    Raises:
        ValueError: names the file if it is missing, damaged or of another layout.
    """
    if not path.is_file():
        raise ValueError(f"there is no file of keypoints {path}")
    names = ("imsize", "keypoints", "descriptors", "scores")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            size, keypoints, descriptors, scores = (archive[name] for name in names)
        width, height = (int(side) for side in size)
        reverse = slice(None, None, -1)
        order = np.argsort(-scores[reverse], kind="stable")
        keypoints, descriptors, scores = (
            values[reverse][order].astype(np.float32) for values in (keypoints, descriptors, scores)
        )
        return Keypoints(keypoints, descriptors, scores, (width, height))
    except (
        ValueError,
        KeyError,
        TypeError,
        IndexError,
        AttributeError,
        EOFError,
        zlib.error,
        zipfile.BadZipFile,
    ) as error:
        raise ValueError(f"{path} is no file of keypoints ({error})") from error


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Keeps cuDNN from rounding the inputs of convolutions to 10 bits (TF32), PyTorch's default."""
    if device.type != "cuda":
        yield
        return
    convolution: Any = torch.backends.cudnn.conv  # type: ignore[attr-defined]
    former = convolution.fp32_precision
    convolution.fp32_precision = "ieee"
    try:
        yield
    finally:
        convolution.fp32_precision = former


def _check_setting(field: dataclasses.Field[Any], value: object) -> None:
    whole = field.name in ("top_k", "min_size", "max_size")
    if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
        raise ValueError(f"{field.name} is {value!r}; it must be {'a whole number' if whole else 'a number'}")
    low, high = field.metadata["low"], field.metadata["high"]
    if not (math.isfinite(value) and low <= value <= high):
        allowed = f"at least {low:g}" if math.isinf(high) else f"between {low:g} and {high:g}"
        raise ValueError(f"{field.name} is {value!r}; it must be {allowed}")


def _pyramid(image: Tensor, settings: ExtractionSettings) -> Iterator[tuple[float, Tensor]]:
    """The scales to search and the image (1, 3, h, w) at each, from large to small.

    Each level is resized from the one before, whether that one is searched or not. The pyramid also ends
    before a level smaller than MIN_SIDE; it would have no end without a smallest scale and size.
    """
    height, width = image.shape[2:]
    longer = max(height, width)
    smallest = max(settings.min_scale, settings.min_size / longer)
    largest = min(settings.max_scale, settings.max_size / longer)
    scale, level = 1.0, image
    while scale + SCALE_TOLERANCE >= smallest and min(level.shape[2:]) >= MIN_SIDE:
        if scale - SCALE_TOLERANCE <= largest:
            yield scale, level
        scale /= settings.scale_factor
        size = (max(1, round(height * scale)), max(1, round(width * scale)))
        level = F.interpolate(level, size, mode="bilinear", align_corners=False)


def _candidates(
    maps: DenseFeatures, level: Tensor, scale: float, size: tuple[int, int], settings: ExtractionSettings
) -> _Candidates:
    reliability, repeatability = maps.reliability[0, 0], maps.repeatability[0, 0]
    # max_pool2d spreads NaN to the neighbours, which may well be maxima.
    comparable = torch.nan_to_num(repeatability, nan=-math.inf)
    highest = F.max_pool2d(comparable[None], kernel_size=3, stride=1, padding=1)[0]
    chosen = (
        (comparable == highest)
        & (comparable >= settings.min_repeatability)
        & (reliability >= settings.min_reliability)
    )
    rows, columns = torch.nonzero(chosen, as_tuple=True)
    scores = reliability[rows, columns] * repeatability[rows, columns]
    # The best k of all levels are among the best k of each; a flat map would fill the memory with ties.
    best = _best(scores, settings.top_k)
    rows, columns, scores = rows[best], columns[best], scores[best]
    (height, width), (level_height, level_width) = size, level.shape[2:]
    # By the size of the level, not of the map, which `fast` returns a pixel smaller at odd sizes.
    x, y = columns * (width / level_width), rows * (height / level_height)
    diameter = torch.full_like(x, PATCH_DIAMETER / scale)
    return _Candidates(
        keypoints=torch.stack([x, y, diameter], dim=1),
        descriptors=maps.descriptors[0][:, rows, columns].T,
        scores=scores,
    )


def _nothing(dim: int, device: torch.device) -> _Candidates:
    return _Candidates(*(torch.zeros(shape, device=device) for shape in ((0, 3), (0, dim), (0,))))


def _best(scores: Tensor, count: int | None) -> Tensor:
    """Indices of the `count` best by descending score; of equal ones those that come first."""
    return torch.sort(scores, descending=True, stable=True).indices[:count]


def _array(values: Tensor) -> npt.NDArray[np.float32]:
    return np.ascontiguousarray(values.to(device="cpu", dtype=torch.float32).numpy())


@contextmanager
def _evaluating(network: R2D2Network) -> Iterator[None]:
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
