"""Changes brightness, contrast, saturation and hue at random, on planes (3, N) of RGB in [0, 255]."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from r2d2.config import DataConfig

WHITE = 255.0

NAMES = ("brightness", "contrast", "saturation", "hue")
_NEUTRAL = (1.0, 1.0, 1.0, 0.0)

# Weights of ITU-R 601-2, as in Pillow's conversion to grey.
_GREY = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class Jitter:
    """A Jitter is one random change of brightness, contrast, saturation and hue, in random order.

    Attributes:
        factors: of "brightness", "contrast", "saturation" (1: no change); turns of "hue" (0: no change).
        order: all four names in the order of application.
    """

    factors: dict[str, float]
    order: tuple[str, ...]

    @classmethod
    def draw(cls, config: DataConfig, rng: np.random.Generator) -> Jitter:
        """Draws factors uniformly in [1 - c, 1 + c], the hue in [-c, c], and their order; five draws."""
        amounts = rng.uniform(-1, 1, 4).tolist()
        factors = {
            "brightness": 1 + config.brightness * amounts[0],
            "contrast": 1 + config.contrast * amounts[1],
            "saturation": 1 + config.saturation * amounts[2],
            "hue": config.hue * amounts[3],
        }
        names = tuple(factors)
        return cls(factors, tuple(names[k] for k in rng.permutation(4)))

    def apply(self, planes: Tensor, whole: Tensor) -> Tensor:
        """Changes the colours of a window of an image.

        Args:
            planes: (3, N) float32, RGB in [0, 255].
            whole: (3, M) float32, pixels from all over the image, for its mean grey, on which contrast turns.

        Returns:
            (3, N) float32 in [0, 255].
        """
        at_contrast = self.order.index("contrast")
        for name in self.order[:at_contrast]:
            planes = _CHANGES[name](planes, self.factors[name])
            whole = _CHANGES[name](whole, self.factors[name])
        planes = change_contrast(planes, self.factors["contrast"], grey(whole).mean())
        for name in self.order[at_contrast + 1 :]:
            planes = _CHANGES[name](planes, self.factors[name])
        return planes


@dataclass(frozen=True)
class JitterBatch:
    """A JitterBatch changes B images in one pass over all of them, whatever their orders.

    Attributes:
        factors: (4, B, 4), by step, image and change (in the order of `NAMES`): the factor of the change that
            an image has at that step, and neutral values of the other three changes.
    """

    factors: Tensor

    @classmethod
    def of(cls, jitters: Sequence[Jitter]) -> JitterBatch:
        """Puts the changes of single images together."""
        factors = torch.tensor([_NEUTRAL] * len(jitters)).repeat(4, 1, 1)
        for image, jitter in enumerate(jitters):
            for k, name in enumerate(jitter.order):
                factors[k, image, NAMES.index(name)] = jitter.factors[name]
        return cls(factors)

    def apply(self, planes: Tensor, whole: Tensor) -> Tensor:
        """Changes the colours of a window of each of B images.

        Args:
            planes: (B, 3, N) float32, RGB in [0, 255], the pixels of the windows.
            whole: (B, 3, M) float32, pixels from all over each image, whose mean grey is the pivot of
                contrast.

        Returns:
            (B, 3, N) float32 in [0, 255].
        """
        count = planes.shape[-1]
        pixels = torch.cat([planes, whole], dim=-1)
        factors = self.factors.to(planes.device, non_blocking=True)[..., None, None]
        for step in factors.unbind(0):
            brightness, contrast, saturation, hue = step.unbind(1)
            pixels = (pixels * brightness).clamp_(0, WHITE)
            pivot = grey(pixels[..., count:]).mean(dim=-1, keepdim=True)
            pixels = torch.lerp(pivot, pixels, contrast).clamp_(0, WHITE)
            pixels = torch.lerp(grey(pixels), pixels, saturation).clamp_(0, WHITE)
            pixels = shift_hue(pixels, hue)
        return pixels[..., :count]


def grey(planes: Tensor) -> Tensor:
    """Returns the grey of RGB planes (..., 3, N) as (..., 1, N): weighted as in Pillow's "L"."""
    red, green, blue = planes.unbind(-2)
    return (red * _GREY[0]).add_(green, alpha=_GREY[1]).add_(blue, alpha=_GREY[2]).unsqueeze(-2)


def change_brightness(planes: Tensor, factor: float) -> Tensor:
    """Multiplies RGB planes (..., 3, N) by a factor and clips them to [0, 255]; returns (..., 3, N)."""
    return (planes * factor).clamp_(0, WHITE)


def change_contrast(planes: Tensor, factor: float, pivot: Tensor) -> Tensor:
    """Multiplies the distance of each value to a grey, and clips to [0, 255].

    Args:
        planes: (..., 3, N) float, RGB in [0, 255].
        factor: 1 changes nothing.
        pivot: scalar, or (..., 1, 1) float: the grey, in [0, 255].

    Returns:
        (..., 3, N) float.
    """
    return torch.lerp(pivot, planes, factor).clamp_(0, WHITE)


def change_saturation(planes: Tensor, factor: float) -> Tensor:
    """Multiplies the distance of each value to its pixel's own grey, and clips to [0, 255].

    Args:
        planes: (..., 3, N) float, RGB in [0, 255].
        factor: 1 changes nothing, 0 leaves the grey.

    Returns:
        (..., 3, N) float.
    """
    return torch.lerp(grey(planes), planes, factor).clamp_(0, WHITE)


def shift_hue(planes: Tensor, turns: float | Tensor) -> Tensor:
    """Turns the hue of hue-saturation-value by a share of a full turn; brightest and darkest channel stay.

    Count hues in sixths of a turn, red at 0, green at 2, blue at 4, and spread a pixel's channels to r, g, b
    in [0, 1]. Its hue is then 1 - r + g + b away from red, on the side of the stronger of green and blue; and
    the red of a hue at distance d from red is 2 - d clipped to [0, 1]. Likewise in turn for green and blue.
    Here all of it is multiplied by the chroma, which spreading would divide by.

    Args:
        planes: (..., 3, N) float, RGB.
        turns: scalar or (..., 1, 1), share of a full turn.

    Returns:
        (..., 3, N) float.
    """
    red, green, blue = planes.unbind(-2)
    low = torch.minimum(torch.minimum(red, green), blue).unsqueeze(-2)
    high = torch.maximum(torch.maximum(red, green), blue).unsqueeze(-2)
    chroma = high - low
    side = torch.stack([green - blue, blue - red, red - green], dim=-2)
    total = high.add_(planes.sum(dim=-2, keepdim=True)).sub_(low, alpha=2)
    away = torch.sub(total, planes, alpha=2).copysign_(side).add_(chroma * (6 * turns))
    # Up to 3 either way, and back again on the far side of the circle.
    shares = torch.clamp(away.abs_().sub_(chroma * 3).abs_(), chroma, chroma * 2)
    return shares.add_(low - chroma)


_CHANGES: dict[str, Callable[[Tensor, float], Tensor]] = {
    "brightness": change_brightness,
    "saturation": change_saturation,
    "hue": shift_hue,
}
