"""What a sweep will cost: one step of each kind of trial is measured on this machine."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from rich.console import Console

from r2d2.config import TrainConfig
from r2d2.containers import PairBatch
from r2d2.geometry import pixel_grid
from r2d2.network import build_network
from r2d2.training.epoch import make_optimiser, train_epoch
from r2d2.training.siamese import SiameseNetwork
from runner.cluster.resources import WorkerResources
from runner.compare.rows import label_trials
from runner.sweep.plan import SweepPlan
from runner.terminal.fitted_table import Column, FittedTable
from search_spaces.sweep import Trial

START_SECONDS = 13.0

Kind = tuple[object, ...]


@dataclass(frozen=True)
class Estimate:
    """The trials of a sweep and the seconds each will take here, but for preparing pairs and scoring.

    Attributes:
        seconds: by trial key; of one worker on its processors or GPU, the start of its processes included.
        slots: trials at a time on this machine.
    """

    plan: SweepPlan
    seconds: Mapping[str, float]
    slots: int

    @property
    def total(self) -> float:
        """Seconds of all trials together, one after the other, workers counted once each."""
        return sum(self.seconds[t.key] * t.config.num_workers for t in self.plan.trials)

    def show(self, console: Console) -> None:
        """Prints every trial, how many there are, and the time."""
        plan = self.plan
        show_trials(plan, self.seconds, console)
        console.print(
            f"{len(plan.trials)} trials and {len(plan.baselines)} starting networks; about "
            f"{duration(self.total)} of one worker, {duration(self.total / self.slots)} here "
            f"({self.slots} at a time; one step of each kind was timed, "
            "neither the preparation of pairs nor scoring is counted)",
            soft_wrap=True,
        )


def show_trials(plan: SweepPlan, seconds: Mapping[str, float], console: Console) -> None:
    """Prints every trial with the seconds that it will take, by key."""
    title = f"{plan.definition.name}: {plan.question.splitlines()[0]}"
    variant, cost = Column("variant", words=True, rank=0), Column("minutes", rank=0)
    table = FittedTable(["trial", variant, "seed", "epochs", "workers", "pairs/step", cost], title=title)
    trials = (*plan.baselines, *plan.trials)
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
    """The sweep without the trials that have ended, which are not run again; and how many of them there are.

    Of a searcher's examples so many are left as it will still suggest.
    """
    stored = plan.stored
    ended = {trial.key for trial in stored.trials() if stored.has_ended(trial, plan.roles)}
    baselines = tuple(trial for trial in plan.baselines if trial.key not in ended)
    if plan.sweep.search_alg is None:
        trials = tuple(trial for trial in plan.trials if trial.key not in ended)
        return replace(plan, trials=trials, baselines=baselines), len(plan.trials) - len(trials)
    count = len(ended - {trial.key for trial in plan.baselines})
    return replace(plan, trials=plan.trials[count:], baselines=baselines), count


def duration(seconds: float) -> str:
    """In words that fit its size: `40 s`, `12 min`, `3.5 h`."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 2 * 3600 else f"{seconds / 3600:.1f} h"


def estimate(plan: SweepPlan) -> Estimate:
    """Times one training step of each kind of trial on this machine and multiplies."""
    worker = WorkerResources(cpus=plan.options.cpus_per_worker)
    timed: dict[Kind, float] = {}
    seconds = {}
    for trial in plan.trials:
        kind = kind_of(trial)
        if kind not in timed:
            timed[kind] = step_seconds(replace(trial.config, epochs=1), worker.threads_of(trial.config))
        steps = trial.config.epochs * steps_per_epoch(plan, trial)
        seconds[trial.key] = START_SECONDS + steps * timed[kind]
    return Estimate(plan, seconds, slots(plan.trials, worker, os.cpu_count() or 1, torch.cuda.device_count()))


def slots(trials: Sequence[Trial], worker: WorkerResources, cpus: int, gpus: int) -> int:
    """How many trials a machine trains at a time; one, where it holds none: it may be meant for a cluster.

    Args:
        trials: of which the largest counts.
        worker: what each worker asks for, beside a GPU where the machine has any.
        cpus: of the machine.
        gpus: of the machine.
    """
    fit = cpus // max(trial.config.num_workers * worker.cpus_of(trial.config) for trial in trials)
    if gpus:
        fit = min(fit, gpus // max(trial.config.num_workers for trial in trials))
    return max(1, fit)


def kind_of(trial: Trial) -> Kind:
    """Trials of one kind take equally long for a step."""
    config = trial.config
    size = (config.data.crop_size, config.pairs_per_worker)
    return (config.network, config.compute, *size, config.data.loader_processes)


def steps_per_epoch(plan: SweepPlan, trial: Trial) -> int:
    """Of a trial with all its workers."""
    config = trial.config
    pairs = config.data.pairs_per_epoch or plan.data.training.pairs
    return pairs // (config.pairs_per_worker * config.num_workers)


def step_seconds(config: TrainConfig, threads: int) -> float:
    """Seconds of the second step on random images: network, loss, optimiser; on so many threads, or a GPU."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
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
