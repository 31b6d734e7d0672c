"""Trains from scratch for some minutes, and scores what was learnt."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from bench.course import THRESHOLDS, Course, Scored
from bench.gpu.scoring import benchmark_of, protocol_of
from bench.gpu.setup import BFLOAT16, Figure, Setup
from r2d2.config import TrainConfig

# Those of the sweep `one_hour`, which learn from scratch.
RECIPE = {
    "loss": {
        "reliability": "hardnet",
        "kappa": 1.0,
        "anchor_swap": True,
        "similarity": "cosine",
        "border": 8,
    },
    "optimiser": {
        "learning_rate": 3e-3,
        "schedule": "linear",
        "warmup_steps": 50,
        "final_share": 0.05,
    },
}
# Steps whose speed tells how many pairs fit into the minutes.
TIMED_STEPS = 100


def training(setup: Setup) -> Iterator[Figure]:
    """Yields the speed of the training and its last losses, then MMA, as the training's end."""
    with tempfile.TemporaryDirectory() as folder:
        course = Course(recipe(setup), Path(folder, "course"))
        with benchmark_of(setup, course.held_out) as benchmark:
            steps = TIMED_STEPS if setup.device.type == "cuda" else 1
            config = course.plan(setup.scale.minutes, points=1, steps=steps)
            yield {
                "planned_pairs": config.data.pairs_per_epoch,
                "photos": len(course.photos),
                "arithmetic": config.compute.precision,
                "loader_processes": config.data.loader_processes,
            }
            (point,) = course.train(config, {"it": Scored(benchmark, protocol_of(setup))})
        metrics = {key: round(value, 4) for key, value in point.metrics.items()}
        yield {"minutes": round(point.minutes, 2), "pairs": point.pairs, "metrics": metrics}
        for part, shares in point.scores["it"].items():
            mma = {f"mma_{t}px": round(share, 4) for t, share in zip(THRESHOLDS, shares, strict=True)}
            yield {"benchmark": benchmark.name, "part": part, **mma}


def recipe(setup: Setup) -> TrainConfig:
    """Makes the configuration of `RECIPE` at this scale, in bfloat16, with the most loader processes."""
    config = setup.config("fast", BFLOAT16)
    config = TrainConfig.from_dict({**config.to_dict(), **RECIPE})
    processes = max(setup.scale.processes)
    return replace(config, data=replace(config.data, photos=setup.photos, loader_processes=processes))
