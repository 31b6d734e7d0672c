"""Defines the network as it is trained, with both images of a pair in one pass."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from r2d2.config import ComputeConfig
from r2d2.containers import DenseFeatures
from r2d2.training.device import compile_network


class SiameseNetwork(nn.Module):
    """Maps both images of a pair in a single `forward`, as data-parallel training needs it.

    The images 1 and the images 2 pass through the network one after the other, so that BatchNorm normalises
    each by its own statistics.

    Args:
        network: image (B, 3, H, W) -> DenseFeatures.
        frozen_statistics: BatchNorm keeps its statistics, and uses them, in training too.
        compute: the network's arithmetic, "bfloat16" by autocast of its layers, and whether it is compiled.
            Its maps, and with them the losses, are in float32 either way. What float32 means on a GPU is up
            to `train_epoch`, because gradients are computed outside of this network.

    Raises:
        ValueError: if it shall be compiled and this machine cannot; for the device its weights are on.
    """

    def __init__(
        self, network: nn.Module, frozen_statistics: bool = False, compute: ComputeConfig | None = None
    ) -> None:
        super().__init__()
        compute = compute or ComputeConfig()
        self.network = network
        self.frozen_statistics = frozen_statistics
        self.autocast = compute.precision == "bfloat16"
        if compute.compile:
            compile_network(network, next(network.parameters()).device)

    def forward(self, image1: Tensor, image2: Tensor) -> tuple[DenseFeatures, DenseFeatures]:
        """Returns the maps of images 1 and of images 2.

        Args:
            image1: (B, 3, H, W) float32, normalised RGB.
            image2: (B, 3, H, W) float32, normalised RGB.
        """
        with torch.autocast(image1.device.type, dtype=torch.bfloat16, enabled=self.autocast):
            return self.network(image1), self.network(image2)

    def train(self, mode: bool = True) -> SiameseNetwork:
        """Sets training mode, but for BatchNorm with frozen statistics."""
        super().train(mode)
        if self.frozen_statistics:
            for module in self.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        return self
