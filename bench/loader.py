"""Times the loader's pairs against decoding alone, and two loader processes against one."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from bench.timing import Ratio
from r2d2.config import DataConfig, TrainConfig
from r2d2.data.images import FORMATS, ImageRefused, open_image, read_image
from r2d2.data.loader import epoch_loader
from r2d2.data.pairs.photo_pair import make_pair
from r2d2.data.photos import PhotoSet, open_photos, photo_set
from r2d2.storage.files import StoredFile

SIZE = (640, 480)
PAIR_LIMIT = 2.5
PROCESSES_LIMIT = 1 / 1.8

# Batches before the clock starts, so that all processes are up, those that it measures, and those behind, so
# that no process is without work yet.
WARM_UP, MEASURED, BEHIND = 12, 96, 8


def loader(photos: PhotoSet, rounds: int) -> Iterator[Ratio]:
    """Measures a pair over bare decoding (floor D), and two loader processes over one.

    Args:
        photos: JPEGs of 640x480 pixels, see `bench_photos`.
        rounds: how often each photograph is timed; the shortest time counts.
    """
    yield pair_cost(photos.files, rounds)
    yield two_processes(photos, rounds=4)


def pair_cost(photos: Sequence[StoredFile], rounds: int) -> Ratio:
    """Measures the processor time of a pair over floor D, on one core; sums their best times."""
    works = {
        "floor": lambda photo, _: decode(photo),
        "pair": lambda photo, seed: make_pair(photo, DataConfig(), np.random.default_rng(seed)),
    }
    best = _best_processor_times(works, photos, rounds)
    name = f"a pair from a JPEG of {SIZE[0]}x{SIZE[1]} / D ({1e3 * best['floor'] / len(photos):.1f} ms)"
    return Ratio(name, best["pair"] / best["floor"], PAIR_LIMIT)


def two_processes(photos: PhotoSet, rounds: int) -> Ratio:
    """Measures an epoch's batches with two loader processes over those with one."""
    best = {1: float("inf"), 2: float("inf")}
    for _ in range(rounds):
        for processes in best:
            best[processes] = min(best[processes], 1 / pairs_per_second(photos, processes))
    return Ratio("two loader processes / one", best[2] / best[1], PROCESSES_LIMIT)


def pairs_per_second(photos: PhotoSet, processes: int, pairs_per_batch: int = 4) -> float:
    """Measures how many pairs a second the loader delivers, while all of its processes are at work."""
    count = (WARM_UP + MEASURED + BEHIND) * pairs_per_batch
    data = DataConfig(loader_processes=processes, pairs_per_epoch=count, held_out=0)
    config = replace(TrainConfig(), data=data, pairs_per_worker=pairs_per_batch)
    batches = iter(epoch_loader(photos, config, epoch=0))
    for _ in range(WARM_UP):
        next(batches)
    start = time.perf_counter()
    measured = sum(len(batch) for batch in islice(batches, MEASURED))
    return measured / (time.perf_counter() - start)


def decode(photo: StoredFile) -> object:
    """Runs floor D: bare Pillow, file to RGB array."""
    with photo.open() as file, Image.open(file, formats=FORMATS) as image:
        return np.asarray(image.convert("RGB"))


@contextmanager
def bench_photos(folder: str | None) -> Iterator[PhotoSet]:
    """Yields a folder's photographs of 640x480; without a folder the samples, resized, as JPEGs.

    Raises:
        ValueError: if the folder holds none of that size.
    """
    if folder is not None:
        yield _of_size(open_photos(folder), folder)
        return
    with tempfile.TemporaryDirectory() as made:
        for number, photo in enumerate(open_photos("samples").files):
            upright = Image.fromarray(read_image(photo))
            upright.resize(SIZE, Image.Resampling.BICUBIC).save(Path(made, f"{number}.jpg"), quality=90)
        yield open_photos(made)


def _of_size(photos: PhotoSet, folder: str) -> PhotoSet:
    named = zip(photos.names, photos.files, strict=True)
    kept = {name: file for name, file in named if _size(file) == SIZE}
    if not kept:
        raise ValueError(f"the folder '{folder}' holds no photograph of {SIZE[0]}x{SIZE[1]} pixels")
    return photo_set(kept)


def _size(photo: StoredFile) -> tuple[int, int]:
    try:
        with open_image(photo) as image:
            return image.size
    except ImageRefused:
        return 0, 0


def _best_processor_times(
    works: dict[str, Callable[[StoredFile, int], object]], photos: Sequence[StoredFile], rounds: int
) -> dict[str, float]:
    """The sum over the files of the shortest processor time of each work, seconds, on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    best = {name: np.full(len(photos), np.inf) for name in works}
    for _ in range(rounds):
        for number, photo in enumerate(photos):
            for name, work in works.items():
                start = time.process_time()
                work(photo, number)
                best[name][number] = min(best[name][number], time.process_time() - start)
    torch.set_num_threads(threads)
    return {name: float(times.sum()) for name, times in best.items()}
