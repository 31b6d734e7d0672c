"""A hand-made network and hand-made benchmarks, whose scores are known without computing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from r2d2.checkpoint import Model
from r2d2.containers import DenseFeatures
from r2d2.network import R2D2Network
from r2d2.network_config import NetworkConfig


class PatchNetwork(R2D2Network):
    """Describes each pixel by the grey levels of the 5x5 pixels around it, so that equal patches match.

    Repeatable and reliable is what is brighter than black; a dark background has no keypoints.
    """

    def __init__(self):
        super().__init__(NetworkConfig("fast", channels=1, dim=25))

    def forward(self, image):
        grey = image.mean(dim=1, keepdim=True)
        level = grey - grey.amin()
        patches = torch.nn.functional.unfold(level, 5, padding=2).view(len(image), 25, *image.shape[2:])
        patches = patches - patches.mean(dim=1, keepdim=True)
        strength = (level / level.amax()).clamp(0, 0.999)
        return DenseFeatures(
            descriptors=torch.nn.functional.normalize(patches + 1e-9, dim=1),
            reliability=torch.full_like(strength, 0.9),
            repeatability=strength,
        )


@pytest.fixture
def patch_model() -> Model:
    return Model(PatchNetwork().eval(), "patches", "0" * 64, config=None, epoch=None)


@pytest.fixture
def texture():
    """A square of noise in the middle of a black image, moved by (dx, dy) pixels."""

    def draw(dx: int = 0, dy: int = 0) -> np.ndarray:
        image = np.zeros((100, 140, 3), np.uint8)
        noise = np.random.default_rng(0).integers(1, 256, size=(50, 60, 1), dtype=np.uint8)
        image[25 + dy : 75 + dy, 40 + dx : 100 + dx] = noise
        return image

    return draw


@pytest.fixture
def write_sequence(tmp_path):
    """Writes a sequence with the same homography for all pairs into the benchmark `tmp_path/bench`."""

    def write(name, first, others, homography=None, suffix=".png"):
        folder = tmp_path / "bench" / name
        folder.mkdir(parents=True)
        for number, image in enumerate([first, *[others] * 5], start=1):
            Image.fromarray(image).save(folder / f"{number}{suffix}")
        for number in range(2, 7):
            np.savetxt(folder / f"H_1_{number}", np.eye(3) if homography is None else homography)
        return folder

    return write
