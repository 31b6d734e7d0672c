"""Runs the network as extraction needs it: maps of every pixel, descriptors where they are asked for.

`DenseMaps` holds what the network itself answers. `FastNetwork` computes the same, up to rounding, with less
work: every BatchNorm is folded into its convolution, all convolutions but the last run in 16 bits where the
processor has arithmetic for it, the two heads are computed band by band in float32, and only the descriptors
of keypoints are normalised (and upsampled). In 16 bits the last convolution and the heads stay in float32:
otherwise the repeatability map has plateaus, whose pixels all count as maxima.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from r2d2.containers import DenseFeatures
from r2d2.network import R2D2Network

# Features squared at once while the heads are computed: on a CPU they stay in its cache; elsewhere there are
# few bands, whose squares take less memory than the maps of a tile.
BAND_BYTES, LARGE_BAND_BYTES = 4 * 2**20, 512 * 2**20
_LEAST_LENGTH = 1e-12


class LevelMaps(Protocol):
    """LevelMaps are what the keypoints of one image at one scale are made of."""

    @property
    def reliability(self) -> Tensor:
        """Returns the reliability of every pixel: (H, W) float32 in [0, 1]."""

    @property
    def repeatability(self) -> Tensor:
        """Returns the repeatability of every pixel: (H, W) float32 in [0, 1)."""

    def describe(self, rows: Tensor, columns: Tensor) -> Tensor:
        """Returns the descriptors of N pixels.

        Args:
            rows: (N,) int64, y of the pixels.
            columns: (N,) int64, x of the pixels.

        Returns:
            (N, D) float32, unit length.
        """


@dataclass(frozen=True)
class DenseMaps:
    """DenseMaps are the answer of a network's `forward`, which describes every pixel."""

    features: DenseFeatures

    @property
    def reliability(self) -> Tensor:
        """Returns the reliability of every pixel: (H, W) float32 in [0, 1]."""
        return self.features.reliability[0, 0]

    @property
    def repeatability(self) -> Tensor:
        """Returns the repeatability of every pixel: (H, W) float32 in [0, 1)."""
        return self.features.repeatability[0, 0]

    def describe(self, rows: Tensor, columns: Tensor) -> Tensor:
        """Picks the descriptors of N pixels out of the dense map.

        Args:
            rows: (N,) int64, y of the pixels.
            columns: (N,) int64, x of the pixels.

        Returns:
            (N, D) float32, unit length.
        """
        return self.features.descriptors[0][:, rows, columns].T


@dataclass(frozen=True)
class FastMaps:
    """FastMaps are the maps of `FastNetwork`, beside the features that descriptors are made of.

    Attributes:
        features: (h, w, D) float32; half the size of the maps if `halved`.
        reliability, repeatability: (H, W) float32.
        halved: whether the network's last layer, an upsampling, is still to be done.
    """

    features: Tensor
    reliability: Tensor
    repeatability: Tensor
    halved: bool

    def describe(self, rows: Tensor, columns: Tensor) -> Tensor:
        """Normalises the features of N pixels, upsampled if the network upsamples them, and of no others.

        Args:
            rows: (N,) int64, y of the pixels.
            columns: (N,) int64, x of the pixels.

        Returns:
            (N, D) float32, unit length.
        """
        chosen = self._doubled(rows, columns) if self.halved else self.features[rows, columns]
        length = chosen.square().sum(dim=1, keepdim=True).clamp_min(_LEAST_LENGTH**2).sqrt()
        return chosen / length

    def _doubled(self, rows: Tensor, columns: Tensor) -> Tensor:
        """What `F.interpolate(scale_factor=2, mode="bilinear", align_corners=False)` has at these pixels."""
        height, width = self.features.shape[:2]
        (row, next_row), (column, next_column) = _neighbours(rows, height), _neighbours(columns, width)
        near = 0.75 * self.features[row, column] + 0.25 * self.features[row, next_column]
        far = 0.75 * self.features[next_row, column] + 0.25 * self.features[next_row, next_column]
        return 0.75 * near + 0.25 * far


class FastNetwork:
    """A FastNetwork is a network prepared for extraction, with the weights of the moment it was made."""

    def __init__(self, network: R2D2Network, precision: torch.dtype) -> None:
        """Folds every BatchNorm into the convolution before it.

        Args:
            network: its `forward` must be that of R2D2Network; left as it is.
            precision: of all convolutions but the last, on the network's device.
        """
        assert is_plain(network)
        with torch.no_grad():
            self._convolutions, self._halved = _folded(network, precision)
            assert network.clf.bias is not None
            assert network.sal.bias is not None
            # softmax over two channels is the sigmoid of their difference.
            reliability = network.clf.weight[1:] - network.clf.weight[:1]
            self._head = torch.cat([reliability, network.sal.weight])[:, :, 0, 0]
            self._head_bias = torch.cat([network.clf.bias[1:] - network.clf.bias[:1], network.sal.bias])

    def __call__(self, image: Tensor) -> FastMaps:
        """Computes the maps of one image (1, 3, H, W) float32, on the device of the weights."""
        x = image.contiguous(memory_format=torch.channels_last)
        for convolution in self._convolutions:
            x = convolution(x)
        features = x[0].permute(1, 2, 0)
        heads = self._doubled_heads(features) if self._halved else self._plain_heads(features)
        reliability, strength = heads + self._head_bias[:, None, None]
        strength = F.softplus(strength)
        return FastMaps(features, reliability.sigmoid(), strength / (1 + strength), self._halved)

    def _heads(self, squared: Tensor) -> Tensor:
        """Both heads (2, rows, columns), without their biases, of features already squared."""
        return F.linear(squared, self._head).permute(2, 0, 1)

    def _plain_heads(self, features: Tensor) -> Tensor:
        rows = _band_rows(features, 1)
        bands = (features[start : start + rows] for start in range(0, len(features), rows))
        return torch.cat([self._heads(band.square()) for band in bands], dim=1)

    def _doubled_heads(self, features: Tensor) -> Tensor:
        """Both heads (2, 2h, 2w) of what upsampling makes of features (h, w, D), which it need not make.

        A head is a sum of squares q(x) = sum_c h_c x_c^2, so between two pixels

            q(3/4 x + 1/4 y) = 3/4 q(x) + 1/4 q(y) - 3/16 q(x - y),

        and along both sides: from the upsampled heads go 3/16 of those of vertical and of horizontal
        differences, and 9/256 of those of differences of differences come back.
        """
        pixels, down, right, both = [], [], [], []
        rows = _band_rows(features, 4)
        for start in range(0, len(features), rows):
            band = features[start : start + rows + 1]  # with the row below it, if there is one
            here, below = band[:rows], band.diff(dim=0)
            pixels.append(self._heads(here.square()))
            right.append(self._heads(here.diff(dim=1).square()))
            down.append(self._heads(below.square()))
            both.append(self._heads(below.diff(dim=1).square()))
        height, width = features.shape[:2]
        excess = _between(_doubled(torch.cat(down, dim=1), height - 1, 2 * width), 1)
        excess += _between(_doubled(torch.cat(right, dim=1), 2 * height, width - 1), 2)
        mixed = _between(_between(torch.cat(both, dim=1), 1), 2)
        return _doubled(torch.cat(pixels, dim=1), 2 * height, 2 * width) - 3 / 16 * excess + 9 / 256 * mixed


@dataclass(frozen=True)
class _Convolution:
    """A convolution with what follows it: a 2x2 max-pool if `pooled`, a ReLU if `rectified`."""

    weight: Tensor
    bias: Tensor
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    pooled: bool = False
    rectified: bool = False

    def __call__(self, x: Tensor) -> Tensor:
        x = x.to(self.weight.dtype)
        if self._sees_padding_alone(x):
            x = self.bias[:, None, None].expand(len(x), -1, *x.shape[-2:])
        else:
            x = F.conv2d(x, self.weight, self.bias, padding=self.padding, dilation=self.dilation)
        # Of the largest of four, rather than the largest of four ReLUs: the same from a quarter of the work.
        x = F.max_pool2d(x, 2) if self.pooled else x
        return x.relu_() if self.rectified else x

    def _sees_padding_alone(self, x: Tensor) -> bool:
        """Whether an image is so small that each weight of a 2x2 kernel meets padding, wherever it stands.

        The convolution is then its bias. oneDNN (of PyTorch 2.13), asked for it in bfloat16 on a processor
        with AMX, ends the process with a segmentation fault.
        """
        if self.weight.shape[-1] != 2:
            return False
        return any(side <= margin for side, margin in zip(x.shape[-2:], self.padding, strict=True))


def is_plain(network: R2D2Network) -> bool:
    """Says whether a network computes its maps as R2D2Network does; only then may its layers be folded."""
    return type(network).forward is R2D2Network.forward


def fast_precision(device: torch.device) -> torch.dtype:
    """Chooses what most convolutions of `FastNetwork` run in on this device: 16 bits where that is fast."""
    if device.type == "cuda":
        return torch.float16
    able = torch.cpu.get_capabilities()
    return torch.bfloat16 if able.get("amx_bf16") or able.get("avx512_bf16") else torch.float32


def _band_rows(features: Tensor, copies: int) -> int:
    """How many rows of features (h, w, D) fit into a band so many times; at least one."""
    most = BAND_BYTES if features.device.type == "cpu" else LARGE_BAND_BYTES
    return max(1, most // (copies * 4 * features.shape[1] * features.shape[2]))


def _doubled(maps: Tensor, height: int, width: int) -> Tensor:
    """Maps (C, h, w) upsampled along the sides that are given twice as long."""
    return F.interpolate(maps[None], (height, width), mode="bilinear", align_corners=False)[0]


def _between(maps: Tensor, dim: int) -> Tensor:
    """Maps of neighbours' differences where upsampling along `dim` mixes the two; zeros at both ends."""
    ends = (1, 1) if dim == 2 else (0, 0, 1, 1)
    return F.pad(maps.repeat_interleave(2, dim), ends)


def _neighbours(places: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The nearest and the second nearest of `count` half-resolution pixels, along one side."""
    nearest = places // 2
    second = torch.add(nearest, places % 2, alpha=2).sub_(1)
    return nearest, second.clamp_(0, count - 1)


def _folded(network: R2D2Network, precision: torch.dtype) -> tuple[list[_Convolution], bool]:
    """The network's convolutions, and whether an upsampling follows the last of them."""
    found: list[_Convolution] = []
    upsampled = False
    for layer in network.ops:
        if isinstance(layer, nn.Conv2d):
            found.append(_plain(layer))
        elif isinstance(layer, nn.BatchNorm2d):
            found[-1] = _normalised(found[-1], layer)
        elif isinstance(layer, nn.ReLU):
            found[-1] = replace(found[-1], rectified=True)
        elif isinstance(layer, nn.MaxPool2d):
            found[-1] = replace(found[-1], pooled=True)
        else:
            assert isinstance(layer, nn.Upsample)
            upsampled = True
    return [*(_in(precision, c) for c in found[:-1]), _in(torch.float32, found[-1])], upsampled


def _plain(layer: nn.Conv2d) -> _Convolution:
    assert layer.bias is not None
    assert isinstance(layer.padding, tuple)
    return _Convolution(layer.weight.double(), layer.bias.double(), layer.padding, layer.dilation)


def _normalised(convolution: _Convolution, norm: nn.BatchNorm2d) -> _Convolution:
    """The convolution whose outputs are already normalised by the statistics of training."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    factor = (norm.running_var.double() + norm.eps).rsqrt()
    return replace(
        convolution,
        weight=convolution.weight * factor[:, None, None, None],
        bias=(convolution.bias - norm.running_mean.double()) * factor,
    )


def _in(precision: torch.dtype, convolution: _Convolution) -> _Convolution:
    weight = convolution.weight.to(precision, memory_format=torch.channels_last)
    return replace(convolution, weight=weight, bias=convolution.bias.to(precision))
