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
from r2d2.storage.cache import CacheSettings

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
        objects: where each node keeps what is on S3; None: nowhere.
    """

    training: Mixture
    held_out: PhotoSet
    benchmarks: tuple[BenchmarkSpec, ...]
    digests: dict[str, str]
    objects: CacheSettings | None = None


def prepare_data(
    config: DataConfig, cache: Path, hpatches: str | None, objects: CacheSettings | None = None
) -> SweepData:
    """Opens the training data, builds the validation benchmark unless it is there, opens HPatches.

    Args:
        config: names the training data.
        cache: where validation benchmarks lie.
        hpatches: a folder or `s3://bucket/prefix`; None: checkpoints are not scored on it.
        objects: where each node keeps what is on S3.

    Raises:
        ValueError: for a place without images or pairs, too few photographs, or a benchmark that is not in
            order.
    """
    data = open_training_data(config, objects)
    training, held_out = data.training, data.held_out
    specs = []
    if config.held_out:
        folder = cache / "validation" / f"{held_out.digest[:16]}-{config.split_seed}"
        build_validation_benchmark(held_out, folder, seed=config.split_seed)
        specs.append(BenchmarkSpec(VALIDATION, str(folder), PROTOCOL[VALIDATION]))
    if hpatches is not None:
        specs.append(BenchmarkSpec(HPATCHES, hpatches, PROTOCOL[HPATCHES], objects))
    digests = {spec.role: open_benchmark(spec.folder, spec.cache).digest for spec in specs}
    return SweepData(training, held_out, tuple(specs), digests, objects)
