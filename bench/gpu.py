"""`make bench-gpu`: pairs a second of the loader, of the training step alone, and of both together.

Pairs are made by the loader's processes, or prepared by them and made on the GPU. Without a GPU it says so.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from rich.table import Table
from torch.utils.data import DataLoader, Dataset

from bench.loader import bench_photos
from r2d2.config import NetworkConfig, TrainConfig
from r2d2.containers import PairBatch, collate
from r2d2.data.pairs import make_pair
from r2d2.data.photos import PhotoSet
from r2d2.data.render import PreparedBatch, collate_prepared, prepare_pair
from r2d2.network import build_network
from r2d2.siamese import SiameseNetwork
from r2d2.training import make_optimiser, train_epoch
from runner.console import make_console

PROCESSES = 16
LIMIT = 0.9


@dataclass(frozen=True)
class Load:
    """How much is measured: batches before the clock starts and behind, loader processes, and the network."""

    warm_up: int = 40
    measured: int = 200
    processes: int = PROCESSES
    network: NetworkConfig = field(default_factory=lambda: NetworkConfig("fast", channels=4, dim=128))


class Batches(Dataset["PairBatch | PreparedBatch"]):
    """Batches by number, their pairs made here or prepared for a device."""

    def __init__(self, photos: PhotoSet, config: TrainConfig, count: int, prepared: bool) -> None:
        self.photos, self.config, self.count, self.prepared = photos, config, count, prepared

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> PairBatch | PreparedBatch:
        size, files, data = self.config.pairs_per_worker, self.photos.files, self.config.data
        numbers = range(number * size, (number + 1) * size)
        seeded = [(files[k % len(files)], data, np.random.default_rng([0, k])) for k in numbers]
        if self.prepared:
            return collate_prepared([prepare_pair(*arguments) for arguments in seeded])
        return collate([make_pair(*arguments) for arguments in seeded])


@dataclass(frozen=True)
class Counted:
    """Batches, and how many they are."""

    batches: Iterable[PairBatch]
    count: int

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[PairBatch]:
        return iter(self.batches)


def speeds(photos: PhotoSet, device: torch.device, load: Load, prepared: bool) -> dict[str, float]:
    """Pairs a second: "loader", "step", "together", with pairs prepared for the device or made."""
    config = TrainConfig(network=load.network, epochs=1)
    count = load.warm_up + load.measured
    siamese = SiameseNetwork(build_network(config.network, seed=0).to(device))
    optimiser = make_optimiser(siamese.network, config)

    def loaded() -> Iterator[PairBatch]:
        """On the device; pixels are made there where they were not before."""
        batches = Batches(photos, config, count, prepared)
        method = "forkserver" if load.processes else None
        for batch in DataLoader(
            batches, batch_size=None, num_workers=load.processes, multiprocessing_context=method
        ):
            yield batch.to(device)

    def trained(batches: Iterable[PairBatch]) -> Iterator[int]:
        steps = train_epoch(siamese, Counted(batches, count), config, optimiser, epoch=1)
        return (report.pairs for report in steps)

    one = Batches(photos, config, 1, prepared)[0].to(device)
    repeated = (one for _ in range(count))
    return {
        "loader": _per_second((len(batch) for batch in loaded()), load.warm_up, device),
        "step": _per_second(trained(repeated), load.warm_up, device),
        "together": _per_second(trained(loaded()), load.warm_up, device),
    }


def main() -> int:
    """Measures both ways; status 1 if one of them is slower than `LIMIT` of the slower of its parts."""
    arguments = argparse.ArgumentParser(prog="python -m bench.gpu")
    arguments.add_argument("--photos", help="folder with JPEGs of 640x480; the sample photographs by default")
    folder = arguments.parse_args().photos
    console = make_console()
    if not torch.cuda.is_available():
        console.print("There is no GPU that PyTorch can use on this machine, so nothing was measured.")
        return 0
    table = Table("pixels are made by", "loader", "step alone", "together", "together / slower", "limit")
    shares = []
    with bench_photos(folder) as photos:
        for prepared, maker in ((False, "the loader"), (True, "the GPU")):
            found = speeds(photos, torch.device("cuda"), Load(), prepared)
            shares.append(found["together"] / min(found["loader"], found["step"]))
            figures = (f"{value:.0f}" for value in found.values())
            table.add_row(maker, *figures, f"{shares[-1]:.2f}", f"{LIMIT:.2f}")
    console.print(table)
    console.print(f"pairs a second; {PROCESSES} loader processes; {torch.cuda.get_device_name()}")
    return int(min(shares) < LIMIT)


def _per_second(counts: Iterator[int], warm_up: int, device: torch.device) -> float:
    """Pairs a second, from the batch behind the warm-up to the last."""
    for _ in range(warm_up):
        next(counts)
    _wait(device)
    start = time.perf_counter()
    total = sum(counts)
    _wait(device)
    return total / (time.perf_counter() - start)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    sys.exit(main())
