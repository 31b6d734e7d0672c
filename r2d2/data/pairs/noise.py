"""Draws what remains of the noise of single pixels after an image is resized, cropped and resized again."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from r2d2.data.pairs.windows import Window

# For integrals by the midpoint rule.
_STEPS = 32


@dataclass(frozen=True)
class NoiseField:
    """A NoiseField says how a window shows uniform noise of an image's pixels after two resizings.

    The recipe adds noise to the whole tilted image, resizes that image, cuts the window and resizes it to the
    crop. Here the noise of the window alone is made and resized once, at the strength that the two resizings
    would leave. Where it shrinks k times or more (k a whole number), k x k pixels share one draw of 1/k the
    width, which has the standard deviation of their mean.

    Attributes:
        rows, columns: of draws.
        width: of the uniform distribution of the draws, grey levels.
        crop_size: to which they are resized.
    """

    rows: int
    columns: int
    width: float
    crop_size: int

    @classmethod
    def seen(
        cls, before: tuple[int, int], after: tuple[int, int], window: Window, crop_size: int, width: float
    ) -> NoiseField:
        """Works out the noise field of a window.

        Args:
            before: (width, height) of the image that gets the noise, pixels.
            after: (width, height) of the resized image, pixels.
            window: what is cropped from the resized image.
            crop_size: side of the result, pixels.
            width: of the uniform distribution, grey levels.
        """
        through = (window.width, window.height)
        sides = [t * b / a for t, b, a in zip(through, before, after, strict=True)]
        k = max(1, int(min(sides) / crop_size))
        columns, rows = (max(1, round(side / k)) for side in sides)
        damping = _damping(math.prod(sides) ** 0.5, math.prod(through) ** 0.5, crop_size)
        return cls(rows, columns, damping * width / k, crop_size)

    def drawn(self, rng: np.random.Generator) -> Tensor:
        """Draws the noise on the CPU: (3, crop_size, crop_size) float32, grey levels, mean 0."""
        count = self.rows * self.columns * 3
        # Eight bytes at a time is the quickest way to draw them.
        words = rng.integers(0, 2**64 - 1, -(-count // 8), dtype=np.uint64, endpoint=True)
        field = torch.from_numpy(words.view(np.uint8)[:count])
        planes = field.view(1, self.rows, self.columns, 3).permute(0, 3, 1, 2)
        return self._resized(planes)[0].to(torch.float32).sub_(127.5).mul_(self.width / 256)

    def drawn_on(self, device: torch.device, seed: int) -> Tensor:
        """Draws the noise on a device, from other random numbers than `drawn`.

        Returns:
            (3, crop_size, crop_size) float32, grey levels, mean 0.
        """
        generator = torch.Generator(device).manual_seed(seed)
        planes = torch.rand(1, 3, self.rows, self.columns, generator=generator, device=device)
        return self._resized(planes.sub_(0.5).mul_(self.width))[0]

    def _resized(self, planes: Tensor) -> Tensor:
        return F.interpolate(planes, (self.crop_size, self.crop_size), mode="bilinear", antialias=True)


def noise_field(
    rng: np.random.Generator,
    before: tuple[int, int],
    after: tuple[int, int],
    window: Window,
    crop_size: int,
    width: float,
) -> Tensor:
    """Draws the noise of a `NoiseField.seen`: (3, crop_size, crop_size) float32, grey levels, mean 0."""
    return NoiseField.seen(before, after, window, crop_size, width).drawn(rng)


def _damping(side: float, through: float, crop_size: int) -> float:
    """How much weaker noise is when `side` pixels are resized to `crop_size` by way of `through` pixels.

    Compared with resizing in one step, in x and y together. Resizing by q input pixels per output pixel
    weights with a triangle of half-width max(1, q). Of the variance of white noise a filter leaves the
    integral of its square; for two triangles in turn that is the integral of the product of their
    autocorrelations, cubic B-splines.
    """
    if through == crop_size:
        return 1.0
    once = 2 / (3 * max(1.0, side / crop_size))
    first = max(1.0, side / through)
    second = side / through * max(1.0, through / crop_size)
    step = 2 * min(first, second) / _STEPS
    places = [(k + 0.5) * step for k in range(_STEPS)]
    products = (_cubic_spline(x / first) * _cubic_spline(x / second) for x in places)
    return 2 * step / (first * second) * sum(products) / once


def _cubic_spline(u: float) -> float:
    """The autocorrelation of a triangle of half-width 1, for u in [0, 2]."""
    return 2 / 3 - u * u + u * u * u / 2 if u < 1 else (2 - u) ** 3 / 6
