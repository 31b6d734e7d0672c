"""Finds the keypoints of one image: dense maps over a pyramid, local maxima, the best k.

After the extraction of Revaud et al. (NeurIPS 2019).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from r2d2.containers import Keypoints
from r2d2.extraction.inference import (
    DenseMaps,
    FastNetwork,
    LevelMaps,
    fast_precision,
    is_plain,
)
from r2d2.extraction.pyramid import Tile, pyramid, tiles
from r2d2.extraction.settings import FASTEST, ExtractionSettings
from r2d2.network import MIN_SIDE, R2D2Network
from r2d2.processor.allocator import give_back
from r2d2.processor.arithmetic import IEEE, float32_as
from r2d2.processor.to_device import copied

PATCH_DIAMETER = 32.0
"""Pixels of a level that a keypoint stands for; in the image they are PATCH_DIAMETER / scale."""


class Extractor:
    """Finds the keypoints of images with one network.

    It holds the network's weights as they were when it was made, in the form that is fastest on the network's
    device. With `settings.exact`, or if the network computes its maps in a way of its own, it runs the
    network itself. A large image is searched in tiles, so that its maps never fill the memory.
    """

    def __init__(self, network: R2D2Network, settings: ExtractionSettings) -> None:
        """Prepares the network, which takes some milliseconds.

        Args:
            network: left as it is.
            settings: scales, thresholds and arithmetic.
        """
        self.settings = settings
        self._network = network
        self._device = next(network.parameters()).device
        self._last_shape: torch.Size | None = None
        self._fast: FastNetwork | None = None
        if is_plain(network) and not settings.exact:
            self._fast = FastNetwork(network, _precision(settings, self._device))

    def __call__(self, image: Tensor) -> Keypoints:
        """Finds the keypoints of one image (3, H, W) float, normalised RGB; see `extract_keypoints`."""
        _check_image(image)
        if image.shape != self._last_shape:
            # What a process keeps of freed memory serves images of one size.
            give_back()
            self._last_shape = image.shape
        height, width = image.shape[1:]
        with torch.inference_mode(), _evaluating(self._network), float32_as(IEEE, self._device):
            batch = copied(image.to(torch.float32), self._device)[None]
            # An image without a level has keypoints of the right shape too: none.
            found = [_nothing(self._network.config.dim, self._device)]
            for scale, level in pyramid(batch, self.settings):
                candidates = self._search(level)
                found.append(candidates.placed(level, (height, width), PATCH_DIAMETER / scale))
            every = _joined(found)
            best = every.chosen(_best(every.scores, self.settings.top_k))
            return Keypoints(
                _array(best.places), _array(best.descriptors), _array(best.scores), image_size=(width, height)
            )

    def _search(self, level: Tensor) -> _Candidates:
        """The best local maxima of one level, best first."""
        height, width = level.shape[2:]
        covering = tiles(height, width)
        if len(covering) == 1:
            return self._search_tile(level, covering[0])
        parts = []
        for tile in covering:
            parts.append(self._search_tile(level, tile))
            # Tiles differ in size, at the borders by their margins: kept memory would grow with each.
            give_back()
        found = _joined(parts)
        columns, rows = found.places.unbind(dim=1)
        # In the order of a single tile, so that equal scores are cut in the same way.
        found = found.chosen(torch.argsort(rows * width + columns))
        return found.chosen(_best(found.scores, self.settings.top_k))

    def _search_tile(self, level: Tensor, tile: Tile) -> _Candidates:
        row_window, column_window = tile.window
        maps = self._maps(level[:, :, row_window, column_window])
        rows, columns = _maxima(maps, tile, self.settings)
        scores = maps.reliability[rows, columns] * maps.repeatability[rows, columns]
        # The best k of all tiles are among the best k of each; a flat map would fill the memory with ties.
        best = _best(scores, self.settings.top_k)
        rows, columns, scores = rows[best], columns[best], scores[best]
        places = torch.stack([columns + column_window.start, rows + row_window.start], dim=1)
        return _Candidates(places, maps.describe(rows, columns), scores)

    def _maps(self, image: Tensor) -> LevelMaps:
        return DenseMaps(self._network(image)) if self._fast is None else self._fast(image)


def extract_keypoints(network: R2D2Network, image: Tensor, settings: ExtractionSettings) -> Keypoints:
    """Finds the keypoints of one image, best first.

    Of equal scores, larger scales come first, then upper rows, then left columns; so does the cut at `top_k`.
    Where a map is not a number, there is no keypoint.

    Args:
        network: used in eval mode; each of its modules gets its mode back.
        image: (3, H, W), RGB normalised by `normalise`, any device; H and W at least network.MIN_SIDE.
        settings: scales, thresholds and arithmetic.

    Raises:
        ValueError: if the image has another shape or is too small.
    """
    return Extractor(network, settings)(image)


def arithmetic(settings: ExtractionSettings, device: torch.device) -> str:
    """Names the arithmetic that `extract_keypoints` uses for these settings on this device.

    Part of the name under which results are stored: those of different arithmetic differ a little.

    Returns:
        `float32` if exact; else `float32-folded`, `bfloat16` or `float16`.
    """
    if settings.exact:
        return "float32"
    precision = str(_precision(settings, device)).removeprefix("torch.")
    return "float32-folded" if precision == "float32" else precision


def _precision(settings: ExtractionSettings, device: torch.device) -> torch.dtype:
    """What most convolutions of `FastNetwork` run in."""
    if settings.precision == FASTEST:
        return fast_precision(device)
    return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[
        settings.precision
    ]


@dataclass(frozen=True)
class _Candidates:
    """Keypoints of a level, a tile of it or, with other places, an image, on the network's device.

    Attributes:
        places: (N, 2) columns and rows of the level; once `placed`, (N, 3) as in `Keypoints`.
        descriptors: (N, D).
        scores: (N,).
    """

    places: Tensor
    descriptors: Tensor
    scores: Tensor

    def chosen(self, indices: Tensor) -> _Candidates:
        """Those of the given indices, in their order."""
        return _Candidates(self.places[indices], self.descriptors[indices], self.scores[indices])

    def placed(self, level: Tensor, size: tuple[int, int], diameter: float) -> _Candidates:
        """The same with x and y in an image of the size (height, width), and a patch diameter, pixels."""
        (height, width), (level_height, level_width) = size, level.shape[2:]
        # By the size of the level, not of the map, which `fast` returns a pixel smaller at odd sizes.
        x = self.places[:, 0] * (width / level_width)
        y = self.places[:, 1] * (height / level_height)
        places = torch.stack([x, y, torch.full_like(x, diameter)], dim=1)
        return _Candidates(places, self.descriptors, self.scores)


def _joined(parts: list[_Candidates]) -> _Candidates:
    return _Candidates(
        torch.cat([p.places for p in parts]),
        torch.cat([p.descriptors for p in parts]),
        torch.cat([p.scores for p in parts]),
    )


def _maxima(maps: LevelMaps, tile: Tile, settings: ExtractionSettings) -> tuple[Tensor, Tensor]:
    """Rows and columns in the tile's window of its own local maxima that pass the thresholds."""
    # max_pool2d spreads NaN to the neighbours, which may well be maxima.
    comparable = torch.nan_to_num(maps.repeatability, nan=-math.inf)
    highest = F.max_pool2d(comparable[None], kernel_size=3, stride=1, padding=1)[0]
    # On a plateau every pixel equals the highest of its neighbourhood, and all of them are taken.
    chosen = (
        (comparable == highest)
        & (comparable >= settings.min_repeatability)
        & (maps.reliability >= settings.min_reliability)
    )
    # The margin belongs to the neighbouring tiles, which see it with its surroundings.
    row_core, column_core = tile.core
    rows, columns = torch.nonzero(chosen[row_core, column_core], as_tuple=True)
    return rows + row_core.start, columns + column_core.start


def _check_image(image: Tensor) -> None:
    if image.dim() != 3 or image.shape[0] != 3:
        raise ValueError(f"image has shape {tuple(image.shape)}; it must be (3, H, W)")
    height, width = image.shape[1:]
    if min(height, width) < MIN_SIDE:
        raise ValueError(f"the image is {width} x {height} pixels; the smallest is {MIN_SIDE} x {MIN_SIDE}")


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
