"""Says what is measured, on which device, and how much of it: on a GPU at full size, on a CPU small ones."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from bench.loader import bench_photos
from r2d2.config import ComputeConfig, TrainConfig
from r2d2.data.photos import SAMPLES, PhotoSet, open_photos, split
from r2d2.network_config import NetworkConfig

Figure = dict[str, Any]
"""What one line says: names of what was measured and how, and numbers."""

NETWORKS = ("fast", "quad")
FLOAT32, TF32, BFLOAT16 = PRECISIONS = ("float32", "tf32", "bfloat16")


@dataclass(frozen=True)
class Scale:
    """A Scale says how large the measured things are, and how long each is measured.

    Attributes:
        channels, dim: of the networks.
        side: of the training windows, pixels.
        pairs: of one step, each number in turn.
        usual_pairs: of one step where the number is not what is asked.
        seconds: that one figure is measured for, first calls left out.
        image_sides: longer sides of the images whose keypoints are extracted, pixels.
        descriptors: numbers of them that are matched.
        processes: of the loader, each number in turn.
        batches: of the loader that are timed.
        minutes: of the training.
        held_out: photographs that the validation benchmark is made of.
        benchmark_size: width and height of its images, pixels.
        profiled_steps: training steps that are looked at one operation at a time.
    """

    channels: int = 4
    dim: int = 128
    side: int = 192
    pairs: tuple[int, ...] = (4, 8, 16, 32, 64)
    usual_pairs: int = 8
    seconds: float = 1.0
    image_sides: tuple[int, ...] = (480, 1024, 1600)
    descriptors: tuple[int, ...] = (5000, 20000)
    processes: tuple[int, ...] = (4, 8, 16)
    batches: int = 150
    minutes: float = 4.0
    held_out: int = 6
    benchmark_size: tuple[int, int] = (384, 256)
    profiled_steps: int = 5


SMALL = Scale(
    channels=1,
    dim=8,
    side=64,
    pairs=(2,),
    usual_pairs=2,
    seconds=0.05,
    image_sides=(96, 128),
    descriptors=(300,),
    processes=(1,),
    batches=2,
    minutes=0.02,
    held_out=1,
    benchmark_size=(96, 64),
    profiled_steps=1,
)


@dataclass(frozen=True)
class Setup:
    """A Setup is what every check is told.

    Attributes:
        device: that is measured.
        photos: folder of photographs, or `samples`.
        sequences: folder in HPatches' layout that networks are scored on; None: a validation benchmark,
            made of held-out photographs.
        scale: how much is measured.
    """

    device: torch.device
    photos: str = SAMPLES
    sequences: Path | None = None
    scale: Scale = field(default_factory=Scale)

    def config(
        self, network: str = "fast", precision: str = TF32, compiled: bool = False, **changes: Any
    ) -> TrainConfig:
        """Makes the configuration of a training at this scale; `changes` are further fields of it.

        Raises:
            ValueError: for a value out of range.
        """
        config = TrainConfig(
            network=NetworkConfig(network, self.scale.channels, self.scale.dim),
            compute=ComputeConfig(precision, compiled),
            pairs_per_worker=self.scale.usual_pairs,
            epochs=1,
        )
        data = replace(config.data, crop_size=self.scale.side, held_out=self.scale.held_out)
        return replace(config, data=data, **changes)

    @contextmanager
    def loaded_photos(self) -> Iterator[PhotoSet]:
        """Opens photographs of 640x480 pixels for the loader.

        Raises:
            ValueError: if the folder holds none of that size, or the samples' packages are not installed.
        """
        with bench_photos(None if self.photos == SAMPLES else self.photos) as photos:
            yield photos

    def split_photos(self) -> tuple[PhotoSet, PhotoSet]:
        """Opens the photographs: those to train on, and those that are held out.

        Raises:
            ValueError: if there are too few, or the samples' packages are not installed.
        """
        return split(open_photos(self.photos), self.scale.held_out, TrainConfig().data.split_seed)
