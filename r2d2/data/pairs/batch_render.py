"""Makes the pixels of pairs on a device, a whole batch at a time: warped, with noise and new colours.

A loader process hands over little: the bytes of each photograph that are in view, the homography that maps
crops to them, and seeds. The pairs are those of `make_pair`, equal up to rounding, except that the noise is
drawn anew.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from r2d2.config import DataConfig
from r2d2.containers import Pair, PairBatch, collate
from r2d2.data.images import ImageFile
from r2d2.data.normalisation import normalise_planes
from r2d2.data.pairs.noise import NoiseField
from r2d2.data.pairs.photo_pair import look
from r2d2.data.pairs.photometric import WHITE, JitterBatch
from r2d2.data.pairs.plan import PairPlan
from r2d2.data.pairs.views import part_in_view
from r2d2.geometry import Array
from r2d2.processor.to_device import copied

_LARGEST_SEED = 2**63 - 1


@dataclass(frozen=True)
class PreparedPair:
    """A PreparedPair holds all that a pair is made from, before its pixels are made.

    Attributes:
        part1, part2: (3, h, w) uint8 RGB, of any size: what is in view.
        to_part1, to_part2: (3, 3), from pixels of the crops to pixels of these.
        whole: (3, M) float32, pixels from all over image 2.
        plan: everything random but the noise.
        noise: the noise field of image 2; None without noise.
        seed: of the noise.
        sample: what the pair is called.
        refused: (file, reason) of photographs that were replaced.
    """

    part1: Tensor
    part2: Tensor
    to_part1: Array
    to_part2: Array
    whole: Tensor
    plan: PairPlan
    noise: NoiseField | None
    seed: int
    sample: str
    refused: tuple[tuple[str, str], ...] = ()


def prepare_pair(
    path: ImageFile,
    config: DataConfig,
    rng: np.random.Generator,
    sample: str = "",
    second: ImageFile | None = None,
) -> PreparedPair:
    """Does what `make_pair` does before it makes pixels, with the same arguments and errors."""
    seen = look(path, config, rng, second)
    plan, side = seen.plan, seen.plan.crop_size
    part1, to_part1, _ = part_in_view(seen.image1, seen.to_image1 @ plan.crop1_to_photo, side)
    part2, to_part2, _ = part_in_view(seen.image2, seen.to_image2 @ plan.crop2_to_photo, side)
    noise = None
    if config.noise > 0:
        noise = NoiseField.seen(plan.image1, plan.image2, plan.window2, side, config.noise)
    seed = int(rng.integers(_LARGEST_SEED, endpoint=True))
    name = sample or PurePath(str(path)).name
    whole = seen.thumbnail().flatten(1)
    return PreparedPair(part1[0], part2[0], to_part1, to_part2, whole, plan, noise, seed, name)


@dataclass(frozen=True)
class PreparedBatch:
    """A PreparedBatch holds B prepared pairs as tensors, ready to travel to a device.

    Attributes:
        parts: (2B, 3, H, W) uint8: the parts of images 1, then of images 2, padded at the right and below.
        sizes: (2B, 2) float32: their own widths and heights.
        to_parts: (2B, 3, 3) float32, from pixels of the crops to pixels of the parts.
        whole: (B, 3, M) float32, pixels from all over images 2.
        crop1_to_crop2: (B, 3, 3) float64; NaN for a pair without common windows.
        factors: (4, B, 4) float32, the changes of images 2, see `JitterBatch`.
        noises: the noise field of each image 2, and its seed; None without noise.
        crop_size: side of the crops, pixels.
        samples, refused: as of `PairBatch`.
    """

    parts: Tensor
    sizes: Tensor
    to_parts: Tensor
    whole: Tensor
    crop1_to_crop2: Tensor
    factors: Tensor
    noises: tuple[tuple[NoiseField, int] | None, ...]
    crop_size: int
    samples: tuple[str, ...]
    refused: tuple[tuple[str, str], ...] = ()

    def __len__(self) -> int:
        return len(self.samples)

    def pin_memory(self) -> PreparedBatch:
        """Copies the batch to memory that a GPU reads from without waiting; needs a GPU."""
        return replace(self, **{name: getattr(self, name).pin_memory() for name in ("parts", *_SMALL)})

    def to(self, device: torch.device) -> PairBatch:
        """Makes the pixels of the pairs on `device`."""
        return render_batch(self, device)

    def __reduce__(self) -> tuple[object, ...]:
        """Sends the parts to another process in shared memory, and small values by copy, which is cheaper."""
        small = {name: getattr(self, name).numpy() for name in _SMALL}
        others = (self.noises, self.crop_size, self.samples, self.refused)
        return _received, (self.parts, small, *others)


_SMALL = ("sizes", "to_parts", "whole", "crop1_to_crop2", "factors")


def _received(
    parts: Tensor, small: Mapping[str, npt.NDArray[np.floating[Any]]], *others: Any
) -> PreparedBatch:
    tensors: list[Any] = [torch.from_numpy(small[name]) for name in _SMALL]
    return PreparedBatch(parts, *tensors, *others)


@dataclass(frozen=True)
class MixedBatch:
    """A MixedBatch holds prepared pairs, and others whose pixels are made already.

    Attributes:
        prepared, made: both.
        order: of each pair its number among the prepared ones and then those made.
    """

    prepared: PreparedBatch
    made: PairBatch
    order: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.order)

    @property
    def samples(self) -> tuple[str, ...]:
        """Names the pairs in error messages."""
        both = self.prepared.samples + self.made.samples
        return tuple(both[k] for k in self.order)

    @property
    def refused(self) -> tuple[tuple[str, str], ...]:
        """Lists (file, reason) of the photographs that were replaced."""
        return self.prepared.refused + self.made.refused

    def pin_memory(self) -> MixedBatch:
        """Copies the batch to memory that a GPU reads from without waiting; needs a GPU."""
        return MixedBatch(self.prepared.pin_memory(), self.made.pin_memory(), self.order)

    def to(self, device: torch.device) -> PairBatch:
        """Makes or copies the pixels of the pairs on `device`, in the order of the batch."""
        first, second = self.prepared.to(device), self.made.to(device)
        order = copied(torch.tensor(self.order), device)
        image1, image2, aflow = (
            torch.cat(both).index_select(0, order)
            for both in (
                (first.image1, second.image1),
                (first.image2, second.image2),
                (first.aflow, second.aflow),
            )
        )
        return PairBatch(image1, image2, aflow, self.samples, self.refused)


def collate_prepared(pairs: Sequence[PreparedPair | Pair]) -> PreparedBatch | MixedBatch | PairBatch:
    """Puts prepared pairs and made pairs of equal crop size into one batch."""
    prepared = [pair for pair in pairs if isinstance(pair, PreparedPair)]
    made = [pair for pair in pairs if isinstance(pair, Pair)]
    if not prepared:
        return collate(made)
    if not made:
        return _collate(prepared)
    places = [k for k, pair in enumerate(pairs) if isinstance(pair, PreparedPair)]
    places += [k for k, pair in enumerate(pairs) if isinstance(pair, Pair)]
    return MixedBatch(_collate(prepared), collate(made), tuple(np.argsort(places).tolist()))


def _collate(pairs: Sequence[PreparedPair]) -> PreparedBatch:
    parts = [p.part1 for p in pairs] + [p.part2 for p in pairs]
    height, width = (max(part.shape[axis] for part in parts) for axis in (1, 2))
    padded = torch.zeros(len(parts), 3, height, width, dtype=torch.uint8)
    for slot, part in zip(padded, parts, strict=True):
        slot[:, : part.shape[1], : part.shape[2]] = part
    ways = np.stack([p.plan.crop1_to_crop2 * (1 if p.plan.found else np.nan) for p in pairs])
    to_parts = np.stack([p.to_part1 for p in pairs] + [p.to_part2 for p in pairs])
    # So that float32 is exact enough, whatever the scale of a homography.
    to_parts = to_parts / to_parts[:, 2:, 2:]
    return PreparedBatch(
        parts=padded,
        sizes=torch.tensor([(part.shape[2], part.shape[1]) for part in parts], dtype=torch.float32),
        to_parts=torch.from_numpy(to_parts.astype(np.float32)),
        whole=torch.stack([p.whole for p in pairs]),
        crop1_to_crop2=torch.from_numpy(ways),
        factors=JitterBatch.of([p.plan.jitter for p in pairs]).factors,
        noises=tuple(None if p.noise is None else (p.noise, p.seed) for p in pairs),
        crop_size=pairs[0].plan.crop_size,
        samples=tuple(p.sample for p in pairs),
        refused=tuple(r for p in pairs for r in p.refused),
    )


def render_batch(prepared: PreparedBatch, device: torch.device) -> PairBatch:
    """Makes the pixels of a batch on a device, and its flow.

    The same on every run on the same kind of device; the noise is drawn by the device.
    """
    side = prepared.crop_size
    parts, sizes, to_parts, whole, ways, factors = (
        getattr(prepared, name).to(device, non_blocking=True) for name in ("parts", *_SMALL)
    )
    views = _views(parts, sizes, to_parts, side)
    view1, view2 = views[: len(prepared)], views[len(prepared) :]
    for image, noise in zip(view2, prepared.noises, strict=True):
        if noise is not None:
            image.add_(noise[0].drawn_on(device, noise[1])).clamp_(0, WHITE)
    view2 = JitterBatch(factors).apply(view2.flatten(2), whole).view_as(view2)
    return PairBatch(
        normalise_planes(view1),
        normalise_planes(view2),
        torch.stack(_positions(ways, side), dim=1).to(torch.float32),
        prepared.samples,
        prepared.refused,
    )


def _views(parts: Tensor, sizes: Tensor, to_parts: Tensor, side: int) -> Tensor:
    """What the homographies (N, 3, 3) show of padded parts (N, 3, H, W): (N, 3, side, side) float32."""
    height, width = parts.shape[2:]
    x, y = _positions(to_parts, side)
    last = (sizes - 1)[..., None, None]
    # Positions outside a part repeat its border, not that of the padding.
    x, y = (torch.minimum(p.clamp_(min=0), last[:, k]) for k, p in enumerate((x, y)))
    grid = torch.stack([x * (2 / max(width - 1, 1)) - 1, y * (2 / max(height - 1, 1)) - 1], dim=-1)
    return F.grid_sample(parts.to(torch.float32), grid, "bilinear", "border", align_corners=True)


def _positions(homographies: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Where homographies (N, 3, 3) lead the pixels of a square: x and y, (N, side, side); NaN behind."""
    line = torch.arange(side, dtype=homographies.dtype, device=homographies.device)
    rows = homographies[..., None, None] * torch.sign(homographies[:, 2:, 2:, None, None])
    first, second, depth = (
        rows[:, k, 0] * line + (rows[:, k, 1] * line[:, None] + rows[:, k, 2]) for k in range(3)
    )
    inverse = torch.where(depth > 0, depth, math.nan).reciprocal()
    return first * inverse, second * inverse
