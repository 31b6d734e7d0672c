"""Measures the loader, alone and beside the training step, with pixels made by it or on the device."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from time import perf_counter

from bench.gpu.clock import each, wait
from bench.gpu.setup import TF32, Figure, Setup
from r2d2.config import PIXELS, DataConfig, TrainConfig
from r2d2.data.loader import AHEAD, epoch_loader
from r2d2.data.photos import PhotoSet
from r2d2.network import build_network
from r2d2.training.device import ahead
from r2d2.training.epoch import SizedBatches, make_optimiser, train_epoch
from r2d2.training.siamese import SiameseNetwork

LEAST_WARM_UP = 10
# Of the slower of loader and step, both together shall reach this share.
SHARE = 0.9


def loader(setup: Setup) -> Iterator[Figure]:
    """Yields pairs a second that arrive on the device, for each number of processes and both places."""
    with setup.loaded_photos() as photos:

        def measure(pixels: str, processes: int) -> Figure:
            config, warm_up = _config(setup, pixels, processes)
            return {"pairs_per_s": round(_arriving(photos, config, warm_up, setup), 1)}

        yield from each(
            (
                {"pixels": pixels, "processes": processes}
                for pixels in PIXELS
                for processes in setup.scale.processes
            ),
            measure,
        )


def together(setup: Setup) -> Iterator[Figure]:
    """Yields pairs a second of loader, step, and both, with as many processes as are measured."""
    with setup.loaded_photos() as photos:

        def measure(pixels: str, processes: int) -> Figure:
            config, warm_up = _config(setup, pixels, processes)
            loaded = _arriving(photos, config, warm_up, setup)
            one = next(iter(epoch_loader(photos, replace(config, data=_few(config)), epoch=0)))
            batch = one.to(setup.device)
            stepped = _trained([batch] * (warm_up + setup.scale.batches), config, warm_up, setup)
            both = _trained(epoch_loader(photos, config, epoch=0), config, warm_up, setup)
            share = both / min(loaded, stepped)
            return {
                "loader_pairs_per_s": round(loaded, 1),
                "step_pairs_per_s": round(stepped, 1),
                "together_pairs_per_s": round(both, 1),
                "share_of_the_slower": round(share, 3),
                "wanted_share": SHARE,
                # A CPU shares its cores between the two.
                **({"good": share >= SHARE} if setup.device.type == "cuda" else {}),
            }

        most = max(setup.scale.processes)
        yield from each(({"pixels": pixels, "processes": most} for pixels in PIXELS), measure)


def _config(setup: Setup, pixels: str, processes: int) -> tuple[TrainConfig, int]:
    """The configuration, and how many batches come before the clock starts: more than were made ahead."""
    config = setup.config("fast", TF32)
    warm_up = LEAST_WARM_UP if setup.device.type == "cuda" else 1
    warm_up += processes * (AHEAD + 1)
    pairs = (warm_up + setup.scale.batches) * config.pairs_per_worker
    data = replace(config.data, pixels=pixels, loader_processes=processes, pairs_per_epoch=pairs, held_out=0)
    return replace(config, data=data), warm_up


def _few(config: TrainConfig) -> DataConfig:
    return replace(config.data, loader_processes=0, pairs_per_epoch=config.pairs_per_worker)


def _arriving(photos: PhotoSet, config: TrainConfig, warm_up: int, setup: Setup) -> float:
    batches = ahead(epoch_loader(photos, config, epoch=0), setup.device)
    return _per_second((len(batch) for _, batch in batches), warm_up, setup)


def _trained(batches: SizedBatches, config: TrainConfig, warm_up: int, setup: Setup) -> float:
    network = build_network(config.network, seed=0).to(setup.device)
    siamese = SiameseNetwork(network, compute=config.compute)
    steps = train_epoch(siamese, batches, config, make_optimiser(network, config), epoch=1)
    return _per_second((report.pairs for report in steps), warm_up, setup)


def _per_second(counts: Iterator[int], warm_up: int, setup: Setup) -> float:
    """Pairs a second, from the batch behind the warm-up to the last."""
    for _ in range(warm_up):
        next(counts)
    wait(setup.device)
    start = perf_counter()
    total = sum(counts)
    wait(setup.device)
    return total / (perf_counter() - start)
