"""Prepares a sweep's data: training data, the validation benchmark of held-out photographs, and HPatches."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from evaluation.actor import BenchmarkSpec
from evaluation.benchmarks.hpatches import open_benchmark
from evaluation.benchmarks.validation import build_validation_benchmark
from r2d2.config import DataConfig
from r2d2.data.mixture import Mixture
from r2d2.data.photos import PhotoSet, passed_over
from r2d2.data.training_data import open_training_data
from r2d2.storage.cache import CacheSettings
from r2d2.storage.manifest import MANIFEST, Manifest, ManifestFile
from r2d2.storage.store import Store
from runner.terminal.words import silent
from search_spaces.sweep import HPATCHES, VALIDATION

log = logging.getLogger(__name__)

# Uploads at a time.
PARALLEL = 16
PROTOCOL = {VALIDATION: "validation", HPATCHES: "d2net"}


@dataclass(frozen=True)
class SweepData:
    """Holds the training data and the benchmarks of a sweep.

    Attributes:
        training: the training data of every trial; shows nothing of what is held out.
        held_out: photographs.
        benchmarks: what every checkpoint is scored on, in this order.
        digests: digest of each benchmark, by role.
        sequences: how many each has.
        objects: where each node keeps what is on S3; None: nowhere.
    """

    training: Mixture
    held_out: PhotoSet
    benchmarks: tuple[BenchmarkSpec, ...]
    digests: dict[str, str]
    sequences: dict[str, int]
    objects: CacheSettings | None = None


def prepare_data(
    config: DataConfig,
    cache: Path,
    hpatches: str | None,
    objects: CacheSettings | None = None,
    shared: Store | None = None,
    say: Callable[[str], None] = silent,
) -> SweepData:
    """Opens the training data, builds the validation benchmark unless it is there, opens HPatches.

    Args:
        config: names the training data.
        cache: where validation benchmarks lie.
        hpatches: a folder or `s3://bucket/prefix`; None: checkpoints are not scored on it.
        objects: where each node keeps what is on S3.
        shared: where a validation benchmark is copied to, for nodes that do not see `cache`; None: they do.
        say: gets a few words on what takes long.

    Raises:
        ValueError: for a place without images or pairs, too few photographs, or a benchmark that is not in
            order.
    """
    data = open_training_data(config, objects)
    training, held_out = data.training, data.held_out
    for files in {id(file.files): file.files for file in held_out.files}.values():
        for sentence in passed_over(files):
            log.warning(sentence)
    say(f"checking {len(training) + len(held_out)} {training.noun}")
    specs = []
    if config.held_out:
        folder = cache / "validation" / f"{held_out.digest[:16]}-{config.split_seed}"
        build_validation_benchmark(held_out, folder, seed=config.split_seed)
        if shared is None:
            specs.append(BenchmarkSpec(VALIDATION, str(folder), PROTOCOL[VALIDATION]))
        else:
            place = _share(folder, shared)
            specs.append(BenchmarkSpec(VALIDATION, place, PROTOCOL[VALIDATION], objects))
    if hpatches is not None:
        specs.append(BenchmarkSpec(HPATCHES, hpatches, PROTOCOL[HPATCHES], objects))
    opened = {spec.role: open_benchmark(spec.folder, spec.cache) for spec in specs}
    digests = {role: benchmark.digest for role, benchmark in opened.items()}
    sequences = {role: len(benchmark.sequences) for role, benchmark in opened.items()}
    return SweepData(training, held_out, tuple(specs), digests, sequences, objects)


def _share(folder: Path, shared: Store) -> str:
    """Copies a benchmark to a place that every node sees, unless it is there; returns that place.

    The manifest is written last; it verifies every file and opens the benchmark with one request.
    """
    paths = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}
    manifest = Manifest(VALIDATION, tuple(ManifestFile.of(folder, name) for name in paths))
    place = shared.below(folder.name)
    if place.read(MANIFEST) != manifest.to_bytes():
        with ThreadPoolExecutor(PARALLEL, thread_name_prefix="r2d2-benchmark") as pool:
            list(pool.map(place.put_file, paths.keys(), paths.values()))
        manifest.write(place)
    return place.place
