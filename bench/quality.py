"""Measures how good a network is after so many minutes of training from scratch: `make bench-quality`.

Trains the recipe of `search_spaces/one_hour.py` and prints MMA on the validation benchmark and on HPatches
over minutes and pairs, beside released networks.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import click
import torch
from rich.console import Console

from bench.course import THRESHOLDS, Course, Point, Scored, device, score_elsewhere
from evaluation.benchmarks.hpatches import open_benchmark
from evaluation.protocols import PROTOCOLS
from r2d2.config import TrainConfig
from r2d2.data.photos import SAMPLES
from r2d2.extraction.inference import fast_precision
from r2d2.processor.allocator import keep_memory
from runner.terminal.console import make_console
from runner.terminal.fitted_table import Column, FittedTable
from search_spaces.sweep import load_sweep

# Data and networks whose licences do not allow to ship them lie beside the repository, if anywhere.
SHARED = Path(__file__).parents[2] / "shared"
HPATCHES = "hpatches"

_PATH = click.Path(path_type=Path, exists=True, file_okay=False)


@click.command()
@click.option("--minutes", type=click.FloatRange(0, min_open=True), default=60.0, show_default=True)
@click.option("--photos", help="Folder of photographs. [default: those of ../shared, else the samples]")
@click.option("--hpatches", type=_PATH, help="[default: that of ../shared]")
@click.option(
    "--released", type=_PATH, help="Folder of released networks, *.pt. [default: that of ../shared]"
)
@click.option("--points", type=click.IntRange(1), default=6, show_default=True, help="Networks to score.")
@click.option("--threads", type=click.IntRange(1), default=2, show_default=True)
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path(".r2d2/bench-quality"), show_default=True
)
def main(
    minutes: float,
    photos: str | None,
    hpatches: Path | None,
    released: Path | None,
    points: int,
    threads: int,
    out: Path,
) -> None:
    """Train the recipe of search_spaces/one_hour.py for so many minutes and show how good it became."""
    torch.set_num_threads(threads)
    keep_memory()
    console = make_console()
    course = Course(recipe(photos or _at_hand("data/photos") or SAMPLES), out)
    scored = {"validation": course.validation()}
    folder = hpatches or _at_hand("data/hpatches")
    if folder is None:
        console.print("Not scored on HPatches: name its folder with --hpatches, or put it into ../shared.")
    else:
        scored[HPATCHES] = Scored(open_benchmark(Path(folder)), PROTOCOLS["d2net"])
    config = course.plan(minutes, points)
    console.print(
        f"{points} x {config.data.pairs_per_epoch} pairs of {course.config.data.photos}, "
        f"{threads} threads, {device()}, {config.compute.precision}; "
        f"planned for {minutes:g} minutes of training",
        soft_wrap=True,
    )
    found = course.train(config, scored)
    weights = released or _at_hand("weights")
    if weights is None:
        console.print("No released networks beside it: name their folder with --released.")
    else:
        found += score_elsewhere({path.stem: path for path in sorted(Path(weights).glob("*.pt"))}, scored)
    show(found, console)
    console.print(f"Checkpoints and curve.json are in {out}", soft_wrap=True)


def recipe(photos: str) -> TrainConfig:
    """Returns the configuration of the sweep `one_hour` on these photographs, in 16 bits where quicker."""
    (trial,) = load_sweep("one_hour")[0].trials()
    data = replace(trial.config.data, photos=photos if photos == SAMPLES else str(Path(photos).absolute()))
    precision = "float32" if fast_precision(device()) == torch.float32 else "bfloat16"
    return replace(trial.config, data=data, compute=replace(trial.config.compute, precision=precision))


def show(points: Iterable[Point], console: Console) -> None:
    """Prints one row per network and part of a benchmark."""
    cost = [Column(head, rank=2) for head in ("minutes", "pairs", "loss")]
    scored = Column("scored on", words=True, rank=0)
    table = FittedTable(["network", *cost, scored, *(f"MMA@{t}" for t in THRESHOLDS)])
    for point in points:
        trained = point.pairs > 0
        head = [
            point.name,
            f"{point.minutes:.1f}" if trained else "-",
            str(point.pairs) if trained else "-",
            f"{point.metrics['train/loss_total']:.3f}" if trained else "-",
        ]
        for role, parts in point.scores.items():
            for part, curve in parts.items():
                if role == HPATCHES or "_" not in part:
                    table.add_row(*head, f"{role} {part}", *(f"{value:.3f}" for value in curve))
                    head = [""] * len(head)
    console.print(table)


def _at_hand(path: str) -> str | None:
    folder = SHARED / path
    return str(folder) if folder.is_dir() else None


if __name__ == "__main__":
    main()
