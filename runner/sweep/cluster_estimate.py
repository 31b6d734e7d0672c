"""What a sweep will take on a cluster: whether it fits, how many trials run at once, GPU hours."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rich.console import Console

from runner.cluster.connect import Capacity, ray_cluster
from runner.cluster.resources import WorkerResources
from runner.settings import Settings
from runner.sweep.estimate import START_SECONDS, Kind, duration, kind_of, step_seconds, steps_per_epoch
from runner.sweep.plan import SweepPlan
from search_spaces.sweep import Trial

# A node that has to be started first takes minutes.
MEASURED_WITHIN_S = 600.0


@dataclass(frozen=True)
class ClusterEstimate:
    """The trials of a sweep on a cluster.

    Attributes:
        capacity: what the cluster has, or can grow to.
        worker: what each worker asks for.
        concurrent: trials at a time.
        seconds: by trial key, start of processes included.
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
        """What is paid for."""
        return "GPU" if self.worker.gpus else "CPU"

    @property
    def hours(self) -> float:
        """GPU hours of all trials, without any GPU CPU hours."""
        seconds = 0.0
        for trial in self.plan.trials:
            each = self.worker.gpus or self.worker.cpus_of(trial.config)
            seconds += self.seconds[trial.key] * trial.config.num_workers * each
        return seconds / 3600

    @property
    def elapsed(self) -> float:
        """Seconds until the last trial ends, if each starts as soon as there is room."""
        return elapsed([self.seconds[trial.key] for trial in self.plan.trials], self.concurrent)

    def show(self, console: Console) -> None:
        """Prints what it comes to."""
        plan, there = self.plan, self.capacity
        largest = max(
            (trial.config for trial in plan.trials),
            key=lambda config: (config.num_workers * self.worker.cpus_of(config), config.num_workers),
        )
        workers = largest.num_workers
        needs = f"{workers} worker{'s' if workers > 1 else ''} of {self.worker.describe(largest)}"
        lines = [
            f"The cluster holds it: {there.cpus:g} CPUs and {there.gpus:g} GPUs; a trial takes {needs}.",
            f"{min(self.concurrent, len(plan.trials))} of {len(plan.trials)} trials run at once.",
            f"About {self.hours:.2f} {self.unit} hours, {duration(self.elapsed)} from start to end "
            f"({self.source}; the preparation of pairs and scoring are not counted).",
        ]
        if self.price is not None:
            lines.append(f"At {self.price:g} per {self.unit} hour: {self.hours * self.price:.2f}.")
        for line in lines:
            console.print(line, soft_wrap=True, highlight=False)


def elapsed(seconds: Sequence[float], slots: int) -> float:
    """When the last of several tasks ends, if they start in order, each as soon as a slot is free."""
    ends = [0.0] * slots
    for length in seconds:
        heapq.heappush(ends, heapq.heappop(ends) + length)
    return max(ends)


def cluster_estimate(
    plan: SweepPlan, settings: Settings, seconds_per_epoch: float | None, price: float | None
) -> ClusterEstimate:
    """Joins the cluster that the settings name, and asks what it holds.

    Args:
        plan: the sweep's.
        settings: where things are.
        seconds_per_epoch: of every trial; None: a step of each kind is timed on the cluster.
        price: of an hour of a GPU, or without any of a CPU.

    Raises:
        ValueError: if the cluster cannot hold a trial, or no slot for the measurement is free in time.
    """
    from runner.sweep.run import shares

    with ray_cluster(settings.ray_address, plan.options.verbose) as now:
        capacity = now.grown(settings.cluster_cpus, settings.cluster_gpus)
        worker, concurrent = shares(plan, capacity)
        if seconds_per_epoch is not None:
            epochs = {trial.key: seconds_per_epoch for trial in plan.trials}
            source = f"{seconds_per_epoch:g} s per epoch, as given"
        else:
            steps = _measure(plan, worker)
            epochs = {t.key: steps_per_epoch(plan, t) * steps[kind_of(t)] for t in plan.trials}
            source = "one step of each kind was timed there"
    seconds = {t.key: START_SECONDS + t.config.epochs * epochs[t.key] for t in plan.trials}
    return ClusterEstimate(plan, capacity, worker, concurrent, seconds, source, price)


def _measure(plan: SweepPlan, worker: WorkerResources) -> dict[Kind, float]:
    """Seconds of one step of each kind of trial, on a worker's share of the cluster."""
    import ray

    kinds: dict[Kind, Trial] = {kind_of(trial): trial for trial in plan.trials}
    timed: Any = ray.remote(step_seconds)
    tasks = [
        timed.options(num_cpus=worker.cpus_of(config), num_gpus=worker.gpus).remote(
            replace(config, epochs=1), worker.threads_of(config)
        )
        for config in (trial.config for trial in kinds.values())
    ]
    try:
        return dict(zip(kinds, ray.get(tasks, timeout=MEASURED_WITHIN_S), strict=True))
    except ray.exceptions.GetTimeoutError as error:
        raise ValueError(
            f"no worker of the cluster was free within {MEASURED_WITHIN_S / 60:.0f} minutes to time a step; "
            "give --seconds-per-epoch"
        ) from error
