"""Defines ExtractionSettings: which scales of an image are searched, and what becomes a keypoint."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from r2d2.settings import setting

# That of the device: 16 bits where it has arithmetic for them.
FASTEST = "fastest"
PRECISIONS = (FASTEST, "float32", "bfloat16", "float16")


@dataclass(frozen=True)
class ExtractionSettings:
    """ExtractionSettings say which scales are searched, and which local maxima become keypoints.

    A level of scale s = 1, 1 / scale_factor, 1 / scale_factor^2, ... is searched if, up to 0.001,
    max(min_scale, min_size / longer side) <= s <= min(max_scale, max_size / longer side). An image is never
    enlarged, so one whose longer side is below min_size has no level and no keypoints.

    `precision` is `fastest` (what the device is fastest in), `float32`, `bfloat16` or `float16`. What is
    scored has a fixed one, see `evaluation.protocols`: the keypoints of different arithmetic differ.
    """

    top_k: int | None = setting(5000, "keep this many best keypoints of all levels; none: all", low=1)
    min_size: int = setting(256, "smallest longer side of a level, pixels", low=0)
    max_size: int = setting(1024, "largest longer side of a level, pixels", low=1)
    min_scale: float = setting(0.0, "smallest scale of a level", low=0, high=1)
    max_scale: float = setting(1.0, "largest scale of a level", low=0, high=1)
    scale_factor: float = setting(2**0.25, "ratio of the scales of two consecutive levels", low=1.01)
    min_reliability: float = setting(0.7, "smallest reliability of a keypoint", low=0, high=1)
    min_repeatability: float = setting(0.7, "smallest repeatability of a keypoint", low=0, high=1)
    exact: bool = setting(False, "float32 arithmetic without short cuts")
    precision: str = setting(FASTEST, "arithmetic of all convolutions but the last, unless it is exact")

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
        if self.exact and self.precision not in (FASTEST, "float32"):
            raise ValueError(f"exact extraction is in float32; leave precision ({self.precision}) out")

    def full_resolution(self) -> ExtractionSettings:
        """Returns the same settings without bounds on the size; the smallest scale is 0.3."""
        return dataclasses.replace(self, min_size=0, max_size=9999, min_scale=0.3, max_scale=1.0)


def _check_setting(field: dataclasses.Field[Any], value: object) -> None:
    if field.name == "exact":
        if not isinstance(value, bool):
            raise ValueError(f"exact is {value!r}; it must be true or false")
        return
    if field.name == "precision":
        if value not in PRECISIONS:
            raise ValueError(
                f"precision is {value!r}; it must be {', '.join(PRECISIONS[:-1])} or {PRECISIONS[-1]}"
            )
        return
    whole = field.name in ("top_k", "min_size", "max_size")
    if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
        raise ValueError(f"{field.name} is {value!r}; it must be {'a whole number' if whole else 'a number'}")
    low, high = field.metadata["low"], field.metadata["high"]
    if not (math.isfinite(value) and low <= value <= high):
        allowed = f"at least {low:g}" if math.isinf(high) else f"between {low:g} and {high:g}"
        raise ValueError(f"{field.name} is {value!r}; it must be {allowed}")
