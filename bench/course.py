"""Trains one network from scratch without a cluster and scores each epoch.

A short calibration measures the speed of this machine. It gives the number of pairs that fit into the
minutes, and that number gives the schedule of the learning rate. After that, length is measured in pairs, not
minutes: the curve is that of one training whose length was fixed before. Scoring does not count as minutes of
training.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from evaluation.benchmarks.hpatches import Benchmark, open_benchmark
from evaluation.benchmarks.validation import build_validation_benchmark
from evaluation.evaluator import evaluate
from evaluation.protocols import PROTOCOLS, Protocol
from r2d2.checkpoint import load_model, save_checkpoint
from r2d2.config import SCRATCH, TrainConfig
from r2d2.data.loader import AHEAD, epoch_loader
from r2d2.data.photos import PhotoSet, open_photos, split
from r2d2.start import starting_network
from r2d2.storage.atomic import atomic_file
from r2d2.training.epoch import make_optimiser, train_epoch
from r2d2.training.metrics import summarise
from r2d2.training.siamese import SiameseNetwork

THRESHOLDS = (1, 3, 5, 10)
CALIBRATION_STEPS = 6
# Scores of single sequences are shown for benchmarks of at most as many, else those of the splits.
SHOWN_SEQUENCES = 8

MmaTable = Mapping[str, tuple[float, ...]]


@dataclass(frozen=True)
class Point:
    """A Point is one network of the curve.

    Attributes:
        name: of the network.
        minutes: of training so far, pairs included, scoring not; 0 for networks trained elsewhere.
        pairs: it was trained on so far.
        metrics: of its last epoch, `train/...`; empty for networks trained elsewhere.
        scores: benchmark to {"overall", split or sequence: MMA@1, 3, 5, 10}.
    """

    name: str
    minutes: float
    pairs: int
    metrics: Mapping[str, float]
    scores: Mapping[str, MmaTable]


@dataclass(frozen=True)
class Scored:
    """A Scored is a benchmark with the protocol that its figures are made by."""

    benchmark: Benchmark
    protocol: Protocol

    def score(self, model: Path) -> MmaTable:
        """Computes MMA@1, 3, 5, 10 of a checkpoint or an upstream `.pt` file.

        Raises:
            ValueError: if the model or an image cannot be read.
        """
        loaded = load_model(model)
        loaded.network.to(device())
        result = evaluate(loaded, self.benchmark, self.protocol)
        table = {part: curve.tolist() for part, curve in result.table().items()}
        if len(self.benchmark.sequences) <= SHOWN_SEQUENCES:
            for name in dict.fromkeys(pair.sequence for pair in result.pairs):
                own = replace(result, pairs=tuple(p for p in result.pairs if p.sequence == name))
                table[name] = own.mma().tolist()
        return {part: tuple(curve[t - 1] for t in THRESHOLDS) for part, curve in table.items()}


@dataclass
class Course:
    """A Course is one training and the folder of its networks.

    Attributes:
        config: what is trained; its epochs and their pairs are replaced by what fits into the minutes.
        folder: for the checkpoints, `curve.json` and the validation benchmark.
    """

    config: TrainConfig
    folder: Path

    def __post_init__(self) -> None:
        data = self.config.data
        self.photos, self.held_out = split(open_photos(data.photos), data.held_out, data.split_seed)

    def validation(self) -> Scored:
        """Opens the validation benchmark of the photographs that are not trained on."""
        folder = build_validation_benchmark(self.held_out, self.folder / "validation")
        return Scored(open_benchmark(folder), PROTOCOLS["validation"])

    def plan(self, minutes: float, points: int, steps: int = CALIBRATION_STEPS) -> TrainConfig:
        """Returns the configuration that trains for about `minutes`, in `points` epochs of equal length.

        Its pairs follow from the speed of `steps` steps.
        """
        return planned(self.config, calibrate(self.config, self.photos, steps), minutes, points)

    def train(self, config: TrainConfig, scored: Mapping[str, Scored]) -> list[Point]:
        """Trains, and scores every epoch's network; `curve.json` holds the points so far."""
        network = starting_network(config, SCRATCH)
        siamese = SiameseNetwork(network, compute=config.compute).to(device())
        optimiser = make_optimiser(network, config)
        points: list[Point] = []
        seconds, pairs = 0.0, 0
        for epoch in range(1, config.epochs + 1):
            started = time.perf_counter()
            batches = epoch_loader(self.photos, config, epoch)
            metrics = summarise(list(train_epoch(siamese, batches, config, optimiser, epoch)))
            seconds += time.perf_counter() - started
            pairs += int(metrics["train/pairs"])
            model = self.folder / f"checkpoint_{epoch:03d}"
            save_checkpoint(model, network, config, epoch, None, metrics)
            scores = {name: one.score(model) for name, one in scored.items()}
            points.append(Point(model.name, seconds / 60, pairs, metrics, scores))
            with atomic_file(self.folder / "curve.json") as file:
                file.write(json.dumps({"points": [asdict(one) for one in points]}, indent=1).encode())
        return points


def device() -> torch.device:
    """Returns the GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def calibrate(config: TrainConfig, photos: PhotoSet, count: int) -> float:
    """Measures the pairs per second of `count` steps of a throwaway network, preparation included.

    Before them come a step that warms up, and those whose batches loader processes made meanwhile.
    """
    warm_up = 1 + AHEAD * config.data.loader_processes
    pairs = config.pairs_per_worker * (warm_up + count)
    calibration = replace(config, epochs=1, data=replace(config.data, pairs_per_epoch=pairs))
    network = starting_network(calibration, SCRATCH)
    siamese = SiameseNetwork(network, compute=config.compute).to(device())
    optimiser = make_optimiser(siamese, calibration)
    steps = train_epoch(siamese, epoch_loader(photos, calibration, epoch=1), calibration, optimiser, epoch=1)
    for _ in range(warm_up):
        next(steps)
    started = time.perf_counter()
    pairs = sum(report.pairs for report in steps)
    return pairs / (time.perf_counter() - started)


def planned(config: TrainConfig, pairs_per_second: float, minutes: float, points: int) -> TrainConfig:
    """Returns the configuration with as many pairs as fit into `minutes`, in `points` epochs of whole steps.

    The warm-up takes at most a tenth of the steps. An epoch has at least one step, however few minutes.
    """
    steps = max(1, int(pairs_per_second * minutes * 60 / points / config.pairs_per_worker))
    warmup = min(config.optimiser.warmup_steps, steps * points // 10)
    return replace(
        config,
        epochs=points,
        data=replace(config.data, pairs_per_epoch=steps * config.pairs_per_worker),
        optimiser=replace(config.optimiser, warmup_steps=warmup),
    )


def score_elsewhere(models: Mapping[str, Path], scored: Mapping[str, Scored]) -> list[Point]:
    """Scores networks that were trained elsewhere, as rows to compare with."""
    return [
        Point(name, 0.0, 0, {}, {role: one.score(path) for role, one in scored.items()})
        for name, path in models.items()
    ]
