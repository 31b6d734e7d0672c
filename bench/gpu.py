"""`make bench-gpu`: pairs a second of the loader, of the training step alone, and of both together.

Pixels are made by the loader's processes, or on the GPU (`data.pixels`). Without a GPU it says so.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import torch

from bench.loader import bench_photos
from r2d2.config import PIXELS, DataConfig, TrainConfig
from r2d2.containers import PairBatch
from r2d2.data.loader import epoch_loader
from r2d2.data.photos import PhotoSet
from r2d2.network import build_network
from r2d2.network_config import NetworkConfig
from r2d2.training.device import ahead
from r2d2.training.epoch import SizedBatches, make_optimiser, train_epoch
from r2d2.training.siamese import SiameseNetwork
from runner.terminal.console import make_console
from runner.terminal.fitted_table import FittedTable

PROCESSES = 16
LIMIT = 0.9


@dataclass(frozen=True)
class Load:
    """How much is measured: batches before the clock starts and behind, loader processes, and the network."""

    warm_up: int = 40
    measured: int = 200
    processes: int = PROCESSES
    network: NetworkConfig = field(default_factory=lambda: NetworkConfig("fast", channels=4, dim=128))


def speeds(photos: PhotoSet, device: torch.device, load: Load, pixels: str) -> dict[str, float]:
    """Pairs a second: "loader", "step", "together", with pixels made by the loader or on the device."""
    count = load.warm_up + load.measured
    config = TrainConfig(network=load.network, epochs=1)
    pairs = count * config.pairs_per_worker
    data = DataConfig(pixels=pixels, loader_processes=load.processes, pairs_per_epoch=pairs, held_out=0)
    config = replace(config, data=data)
    siamese = SiameseNetwork(build_network(config.network, seed=0).to(device))
    optimiser = make_optimiser(siamese.network, config)

    def loaded() -> Iterator[PairBatch]:
        """On the device; pixels are made there where they were not before."""
        return (there for _, there in ahead(epoch_loader(photos, config, epoch=0), device))

    def trained(batches: SizedBatches) -> Iterator[int]:
        steps = train_epoch(siamese, batches, config, optimiser, epoch=1)
        return (report.pairs for report in steps)

    one = next(loaded())
    return {
        "loader": _per_second((len(batch) for batch in loaded()), load.warm_up, device),
        "step": _per_second(trained([one] * count), load.warm_up, device),
        "together": _per_second(trained(epoch_loader(photos, config, epoch=0)), load.warm_up, device),
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
    table = FittedTable(
        ["pixels are made by", "loader", "step alone", "together", "together / slower", "limit"]
    )
    shares = []
    with bench_photos(folder) as photos:
        for pixels in PIXELS:
            found = speeds(photos, torch.device("cuda"), Load(), pixels)
            shares.append(found["together"] / min(found["loader"], found["step"]))
            figures = (f"{value:.0f}" for value in found.values())
            table.add_row(pixels, *figures, f"{shares[-1]:.2f}", f"{LIMIT:.2f}")
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
