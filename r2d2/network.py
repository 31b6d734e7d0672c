"""Defines the network: an image goes in, three dense maps come out.

Two architectures after Revaud et al., "R2D2: Reliable and Repeatable Detector and Descriptor" (NeurIPS 2019):
`quad`, all at full resolution, and `fast`, whose deeper layers run at half resolution. Parameter names follow
the released networks: `ops.<i>.*` counts every convolution, normalisation, ReLU, pooling and upsampling in
order, `clf.*` is the reliability, `sal.*` the repeatability.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from r2d2.containers import DenseFeatures
from r2d2.network_config import NetworkConfig
from r2d2.processor.convolution import Convolution
from r2d2.unknown import unknown

Layers = list[nn.Module]

# Below it the half-resolution maps of `fast` can have a single pixel, whose variance cannot normalise it.
MIN_SIDE = 4
# A network of this size has half a gigabyte of weights.
LARGEST = {"channels": 64, "dim": 4096}


def _convolution(inputs: int, outputs: int, size: int, dilation: int = 1) -> Convolution:
    return Convolution(inputs, outputs, size, padding=(size - 1) * dilation // 2, dilation=dilation)


def _block(inputs: int, outputs: int, size: int, dilation: int = 1, relu: bool = True) -> Layers:
    layers: Layers = [
        _convolution(inputs, outputs, size, dilation),
        nn.BatchNorm2d(outputs, affine=False),
    ]
    return [*layers, nn.ReLU()] if relu else layers


def _quad(channels: int, dim: int) -> Layers:
    narrow, medium, wide = 8 * channels, 16 * channels, 32 * channels
    return [
        *_block(3, narrow, 3),
        *_block(narrow, narrow, 3),
        *_block(narrow, medium, 3),
        *_block(medium, medium, 3, dilation=2),
        *_block(medium, wide, 3, dilation=2),
        *_block(wide, wide, 3, dilation=4),
        *_block(wide, wide, 2, dilation=4, relu=False),
        *_block(wide, wide, 2, dilation=8, relu=False),
        _convolution(wide, dim, 2, dilation=16),
    ]


def _fast(channels: int, dim: int) -> Layers:
    narrow, medium, wide = 8 * channels, 16 * channels, 32 * channels
    return [
        *_block(3, narrow, 3),
        *_block(narrow, narrow, 3),
        *_block(narrow, medium, 3),
        nn.MaxPool2d(2),
        *_block(medium, medium, 3),
        *_block(medium, wide, 3),
        *_block(wide, wide, 3, dilation=2),
        *_block(wide, wide, 2, dilation=2, relu=False),
        *_block(wide, wide, 2, dilation=4, relu=False),
        _convolution(wide, dim, 2, dilation=8),
        nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False),
    ]


NETWORKS: dict[str, Callable[[int, int], Layers]] = {"quad": _quad, "fast": _fast}
"""Architecture name -> its layers, given channels and dim."""


class R2D2Network(nn.Module):
    """An R2D2Network maps an image to descriptors, reliability and repeatability of every pixel.

    Attributes:
        config: which architecture it is, how wide, and how long its descriptors are.
    """

    def __init__(self, config: NetworkConfig) -> None:
        """Builds the layers with PyTorch's default initial weights, drawn from the global random state.

        Raises:
            ValueError: for an unknown architecture, or channels or dim below 1.
        """
        super().__init__()
        _check_config(config)
        self.config = config
        self.ops = nn.ModuleList(NETWORKS[config.name](config.channels, config.dim))
        self.clf = nn.Conv2d(config.dim, 2, kernel_size=1)
        self.sal = nn.Conv2d(config.dim, 1, kernel_size=1)

    def forward(self, image: Tensor) -> DenseFeatures:
        """Computes the three maps of a batch of images.

        Args:
            image: (B, 3, H, W) float, RGB normalised by `normalise`; H and W at least MIN_SIDE.

        Returns:
            Maps of the same H, W; `fast` returns 2*floor(H/2) x 2*floor(W/2).

        Raises:
            ValueError: for another shape, whole numbers, or an image smaller than MIN_SIDE.
        """
        _check_image(image)
        # The layout that convolutions are fastest in, on CPU and GPU.
        x = image.contiguous(memory_format=torch.channels_last)
        for layer in self.ops:
            x = layer(x)
        # Under autocast the layers compute in 16 bits; the maps are made in the precision of the weights.
        with torch.autocast(x.device.type, enabled=False):
            return self._maps(x.to(self.clf.weight.dtype))

    def _maps(self, x: Tensor) -> DenseFeatures:
        """Both heads, and the descriptors, of the last layer's x (B, D, H, W)."""
        squares = x.square()
        strength = F.softplus(self.sal(squares))
        return DenseFeatures(
            descriptors=F.normalize(x, dim=1),
            reliability=F.softmax(self.clf(squares), dim=1)[:, 1:2],
            repeatability=strength / (1 + strength),
        )


def build_network(config: NetworkConfig, seed: int | None = None) -> R2D2Network:
    """Builds a network with PyTorch's default initial weights.

    Args:
        config: the architecture.
        seed: of the initial weights; the global random state is then left as it was. None: the weights are
            drawn from the global random state.

    Raises:
        ValueError: for an unknown architecture, or channels or dim below 1.
    """
    with nullcontext() if seed is None else torch.random.fork_rng(devices=[]):
        if seed is not None:
            # torch.manual_seed would also seed the GPUs, whose state is not forked here.
            torch.default_generator.manual_seed(seed)
        return R2D2Network(config)


def network_from_state(config: NetworkConfig, state: Mapping[str, Tensor], source: str) -> R2D2Network:
    """Builds a network with given weights, in eval mode.

    Shapes are compared before anything is allocated for the network.

    Args:
        config: the architecture.
        state: parameters and buffers by name, of any shape and floating type; a type other than float32 is
            converted to it, another shape than the architecture's is refused.
        source: where they come from, for error messages.

    Raises:
        ValueError: if a name is missing or unknown, a shape or type does not fit, or a weight is NaN or
            infinite; names `source`.
    """
    try:
        with torch.device("meta"):
            expected = R2D2Network(config).state_dict()
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from None
    for name, wanted in expected.items():
        if name not in state:
            raise ValueError(f"{source} lacks '{name}', which a network {_describe(config)} has")
        _check_weight(state[name], wanted, f"'{name}' in {source}", config)
    unknown = sorted(set(state) - set(expected))
    if unknown:
        raise ValueError(f"{source} has '{unknown[0]}', which a network {_describe(config)} does not have")
    for name, weight in state.items():
        if not torch.isfinite(weight).all():
            raise ValueError(f"'{name}' in {source} holds NaN or infinity: the training that wrote it failed")
    network = build_network(config, seed=0)
    network.load_state_dict(dict(state))
    return network.eval()


def _check_config(config: NetworkConfig) -> None:
    if config.name not in NETWORKS:
        raise ValueError(unknown("network", config.name, sorted(NETWORKS)))
    for name, value in (("channels", config.channels), ("dim", config.dim)):
        if not 1 <= value <= LARGEST[name]:
            raise ValueError(f"network.{name} is {value}; it must be from 1 to {LARGEST[name]}")


def _check_image(image: Tensor) -> None:
    if image.dim() != 4 or image.shape[1] != 3:
        raise ValueError(f"image has shape {tuple(image.shape)}; it must be (B, 3, H, W)")
    if not image.is_floating_point():
        raise ValueError(f"image holds {image.dtype}; it must be floating point, normalised")
    height, width = image.shape[2:]
    if min(height, width) < MIN_SIDE:
        raise ValueError(f"the image is {width} x {height} pixels; the smallest is {MIN_SIDE} x {MIN_SIDE}")


def _check_weight(weight: Tensor, wanted: Tensor, where: str, config: NetworkConfig) -> None:
    if weight.layout != torch.strided or weight.is_meta or weight.is_quantized:
        raise ValueError(f"{where} is no plain array of numbers")
    if weight.shape != wanted.shape:
        raise ValueError(
            f"{where} has shape {tuple(weight.shape)}; "
            f"a network {_describe(config)} needs {tuple(wanted.shape)}"
        )
    if weight.is_floating_point() != wanted.is_floating_point() or weight.is_complex():
        raise ValueError(f"{where} holds {weight.dtype}; it must hold {wanted.dtype}")


def _describe(config: NetworkConfig) -> str:
    return f"'{config.name}' with channels={config.channels}, dim={config.dim}"
