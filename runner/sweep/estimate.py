"""Estimates what a sweep will cost: trials at a time, GPU hours, wall time, price. A step is timed."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from rich.console import Console

from r2d2.config import TrainConfig
from r2d2.containers import PairBatch
from r2d2.network import build_network
from r2d2.training.epoch import make_optimiser, train_epoch
from r2d2.training.siamese import SiameseNetwork
from r2d2.warp import pixel_grid
from runner.cluster.connect import Capacity, ray_cluster
from runner.cluster.processors import usable_cpus
from runner.cluster.resources import WorkerResources
from runner.compare.rows import label_trials
from runner.settings import Settings
from runner.sweep.plan import SweepPlan
from runner.terminal.console import show_line
from runner.terminal.fitted_table import Column, FittedTable
from search_spaces.sweep import Trial

START_SECONDS = 13.0
# A node that has to be started first takes minutes.
MEASURED_WITHIN_S = 600.0

Kind = tuple[object, ...]


@dataclass(frozen=True)
class Estimate:
    """An Estimate says how long the trials of a sweep take, without preparing pairs and scoring.

    Attributes:
        capacity: what the machine or cluster has, or can grow to.
        worker: what each worker asks for.
        concurrent: trials at a time; 0: not one fits.
        seconds: by trial key; the start of its processes included.
        source: where the time of an epoch is from, in words.
        price: of an hour of a GPU, or without any of a CPU; None: unknown.
    """

    plan: SweepPlan
    capacity: Capacity
    worker: WorkerResources
    concurrent: int
    seconds: Mapping[str, float]
    source: str
    price: float | None = None

    @property
    def unit(self) -> str:
        """Names what is paid for."""
        return "GPU" if self.worker.gpus else "CPU"

    @property
    def hours(self) -> float:
        """Returns the GPU hours of all trials; CPU hours if no trial has a GPU."""
        seconds = 0.0
        for trial in self.plan.trials:
            each = self.worker.gpus or self.worker.cpus_of(trial.config)
            seconds += self.seconds[trial.key] * trial.config.num_workers * each
        return seconds / 3600

    @property
    def elapsed(self) -> float:
        """Returns the seconds from start to end: all trials over the trials at a time, or the longest one."""
        seconds = [self.seconds[trial.key] for trial in self.plan.trials]
        return max(*seconds, sum(seconds) / max(1, self.concurrent))

    def show(self, console: Console) -> None:
        """Prints every trial, and what all of them take."""
        show_trials(self.plan, self.seconds, console)
        for line in self._lines():
            show_line(console, line)

    def _lines(self) -> list[str]:
        plan, there = self.plan, self.capacity
        largest = max(
            (trial.config for trial in plan.trials),
            key=lambda config: (config.num_workers * self.worker.cpus_of(config), config.num_workers),
        )
        workers, count = largest.num_workers, len(plan.trials)
        needs = f"{workers} worker{'s' * (workers > 1)} of {self.worker.describe(largest)}"
        at_a_time = f"{min(self.concurrent, count)} at a time" if self.concurrent else "no trial fits"
        lines = [
            f"{count} trials and {len(plan.starts)} starting networks; {at_a_time} on {there.cpus:g} CPUs "
            f"and {there.gpus:g} GPUs: a trial takes {needs}.",
            f"About {self.hours:.2f} {self.unit} hours, {duration(self.elapsed)} from start to end "
            f"({self.source}; the preparation of pairs and scoring are not counted).",
        ]
        if self.price is not None:
            lines.append(f"At {self.price:g} per {self.unit} hour: {self.hours * self.price:.2f}.")
        return lines


def estimate(
    plan: SweepPlan,
    settings: Settings,
    seconds_per_epoch: float | None = None,
    price: float | None = None,
) -> Estimate:
    """Estimates a sweep on this machine, or on the cluster that the settings name, which is joined.

    Args:
        plan: the sweep's.
        settings: where things are.
        seconds_per_epoch: of every trial; None: a step of each kind is timed there.
        price: of an hour of a GPU, or without any of a CPU.

    Raises:
        ValueError: if the cluster cannot hold a trial, or has no room for the measurement in time.
    """
    if settings.ray_address is None:
        here = Capacity(usable_cpus(), torch.cuda.device_count())
        return _estimate(plan, here, seconds_per_epoch, price, on_cluster=False)
    with ray_cluster(settings.ray_address, plan.options.verbose) as now:
        there = now.grown(settings.cluster_cpus, settings.cluster_gpus)
        return _estimate(plan, there, seconds_per_epoch, price, on_cluster=True)


def _estimate(
    plan: SweepPlan,
    capacity: Capacity,
    seconds_per_epoch: float | None,
    price: float | None,
    *,
    on_cluster: bool,
) -> Estimate:
    from runner.sweep.run import shares, worker_of

    worker = worker_of(plan, capacity)
    try:
        _, concurrent = shares(plan, capacity)
    except ValueError:
        if on_cluster:
            raise
        # It may be meant for a cluster.
        concurrent = 0
    if seconds_per_epoch is not None:
        epochs = {trial.key: seconds_per_epoch for trial in plan.trials}
        source = f"{seconds_per_epoch:g} s per epoch, as given"
    else:
        kinds = {kind_of(trial): trial.config for trial in plan.trials}
        steps = _time_on_cluster(kinds, worker) if on_cluster else _time_here(kinds, worker)
        epochs = {t.key: steps_per_epoch(plan, t) * steps[kind_of(t)] for t in plan.trials}
        source = "one step of each kind was timed"
    seconds = {t.key: START_SECONDS + t.config.epochs * epochs[t.key] for t in plan.trials}
    return Estimate(plan, capacity, worker, concurrent, seconds, source, price)


def _time_here(kinds: Mapping[Kind, TrainConfig], worker: WorkerResources) -> dict[Kind, float]:
    """Times one step of each kind of trial on this machine, seconds."""
    device = device_of(worker) if torch.cuda.is_available() else "cpu"
    return {kind: step_seconds(config, worker.threads_of(config), device) for kind, config in kinds.items()}


def _time_on_cluster(kinds: Mapping[Kind, TrainConfig], worker: WorkerResources) -> dict[Kind, float]:
    """Times one step of each kind of trial on a worker's share of the cluster, seconds."""
    import ray

    timed: Any = ray.remote(step_seconds)
    tasks = [
        timed.options(num_cpus=worker.cpus_of(config), num_gpus=worker.gpus).remote(
            config, worker.threads_of(config), device_of(worker)
        )
        for config in kinds.values()
    ]
    try:
        return dict(zip(kinds, ray.get(tasks, timeout=MEASURED_WITHIN_S), strict=True))
    except ray.exceptions.GetTimeoutError as error:
        raise ValueError(
            f"no worker of the cluster was free within {MEASURED_WITHIN_S / 60:.0f} minutes to time a step; "
            "give --seconds-per-epoch"
        ) from error


def show_trials(plan: SweepPlan, seconds: Mapping[str, float], console: Console) -> None:
    """Prints every trial with the seconds that it will take, by key."""
    title = f"{plan.definition.name}: {plan.question.splitlines()[0]}"
    variant, cost = Column("variant", words=True, rank=0), Column("minutes", rank=0)
    table = FittedTable(["trial", variant, "seed", "epochs", "workers", "pairs/step", cost], title=title)
    trials = (*plan.starts, *plan.trials)
    labels = label_trials(trials, plan.sweep.names)
    for trial in trials:
        config = trial.config
        minutes = f"{seconds[trial.key] / 60:.1f}" if trial.key in seconds else "-"
        pairs = config.pairs_per_worker * config.num_workers
        cells = (config.seed, config.epochs, config.num_workers, pairs)
        table.add_row(trial.key, labels[trial.key], *map(str, cells), minutes)
    console.print(table)
    if plan.sweep.search_alg is not None:
        console.print("A searcher chooses the trials; these are examples of what it may choose.")


def what_is_left(plan: SweepPlan) -> tuple[SweepPlan, int]:
    """Returns the sweep without the trials that have ended, and how many of these there are.

    With a searcher, as many of its examples are left as it will still suggest.
    """
    stored = plan.stored
    ended = {trial.key for trial in stored.trials() if stored.has_ended(trial, plan.roles)}
    starts = tuple(trial for trial in plan.starts if trial.key not in ended)
    if plan.sweep.search_alg is None:
        trials = tuple(trial for trial in plan.trials if trial.key not in ended)
        return replace(plan, trials=trials, starts=starts), len(plan.trials) - len(trials)
    count = len(ended - {trial.key for trial in plan.starts})
    return replace(plan, trials=plan.trials[count:], starts=starts), count


def duration(seconds: float) -> str:
    """Formats seconds in a unit that fits: `40 s`, `12 min`, `3.5 h`."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 2 * 3600 else f"{seconds / 3600:.1f} h"


def kind_of(trial: Trial) -> Kind:
    """Returns what decides the time of a step; trials of one kind take equally long."""
    config = trial.config
    size = (config.data.crop_size, config.pairs_per_worker)
    return (config.network, config.compute, *size, config.data.loader_processes)


def steps_per_epoch(plan: SweepPlan, trial: Trial) -> int:
    """Returns the steps of an epoch of a trial with all its workers."""
    config = trial.config
    pairs = config.data.pairs_per_epoch or plan.data.training.pairs
    return pairs // (config.pairs_per_worker * config.num_workers)


def device_of(worker: WorkerResources) -> str:
    """Returns where a worker computes: on what it asked for, not on whatever its node has."""
    return "cuda" if worker.gpus else "cpu"


def step_seconds(config: TrainConfig, threads: int, device: str) -> float:
    """Times the second step on random images (network, loss, optimiser), on so many threads or a GPU."""
    config = replace(config, epochs=1)
    former = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        network = build_network(config.network, seed=0).to(device)
        siamese = SiameseNetwork(network, compute=config.compute)
        optimiser = make_optimiser(siamese, config)
        batch = _random_batch(config)
        steps = train_epoch(siamese, [batch, batch], config, optimiser, epoch=1)
        next(steps)
        start = time.perf_counter()
        next(steps)
        return time.perf_counter() - start
    finally:
        torch.set_num_threads(former)


def _random_batch(config: TrainConfig) -> PairBatch:
    count, side = config.pairs_per_worker, config.data.crop_size
    images = torch.randn(2, count, 3, side, side, generator=torch.Generator().manual_seed(0))
    aflow = pixel_grid(side, side).expand(count, 2, side, side).contiguous()
    return PairBatch(images[0], images[1], aflow, ("random",) * count)
