"""What a sweep is scored on: the validation benchmark made of held-out photographs, and HPatches."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from evaluation.actor import BenchmarkSpec
from evaluation.hpatches import open_benchmark
from evaluation.validation import build_validation_benchmark
from r2d2.config import DataConfig
from r2d2.data.mixture import Mixture
from r2d2.data.photos import PhotoSet
from r2d2.data.training_data import open_training_data

VALIDATION, HPATCHES = "validation", "hpatches"
PROTOCOL = {VALIDATION: "validation", HPATCHES: "d2net"}


@dataclass(frozen=True)
class SweepData:
    """Training data and benchmarks of a sweep.

    Attributes:
        training: what every trial is fed; shows nothing of what is held out.
        held_out: photographs.
        benchmarks: what every checkpoint is scored on, in this order.
        digests: digest of each benchmark, by role.
    """

    training: Mixture
    held_out: PhotoSet
    benchmarks: tuple[BenchmarkSpec, ...]
    digests: dict[str, str]


def prepare_data(config: DataConfig, cache: Path, hpatches: Path | None) -> SweepData:
    """Opens the training data, builds the validation benchmark unless it is there, opens HPatches.

    Raises:
        ValueError: for a folder without images, too few photographs, or a benchmark that is not in order.
    """
    data = open_training_data(config, object_cache)
    training, held_out = data.training, data.held_out
    specs = []
    if config.held_out:
        folder = cache / "validation" / f"{held_out.digest[:16]}-{config.split_seed}"
        build_validation_benchmark(held_out, folder, seed=config.split_seed)
        specs.append(BenchmarkSpec(VALIDATION, str(folder), PROTOCOL[VALIDATION]))
    if hpatches is not None:
        specs.append(BenchmarkSpec(HPATCHES, str(hpatches), PROTOCOL[HPATCHES]))
    digests = {spec.role: open_benchmark(Path(spec.folder)).digest for spec in specs}
    return SweepData(training, held_out, tuple(specs), digests)
