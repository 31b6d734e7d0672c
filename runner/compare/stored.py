"""Reads a stored sweep, finished or not, for a comparison: its rows, their networks, its standing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from evaluation.metrics.figure import USUAL_RANK
from evaluation.metrics.pair_metrics import ranked
from evaluation.statistics.variants import Curve, Variant
from r2d2.collapse import collapse_warnings
from r2d2.config import SCRATCH, TrainConfig
from r2d2.training.metrics import LOSSES
from runner.compare.rows import find_baselines, label_trials
from runner.compare.standing import Progress, Standing
from runner.record.definition import SweepDefinition
from runner.record.history import TRAIN, Record, read_evaluation
from runner.record.sweep import StoredSweep
from search_spaces.sweep import Trial

# The row of a trial, by its key.
Rows = Mapping[str, str]
# What is shown of other benchmarks than the one that is compared.
SCORES = tuple(f"{role}/{name}" for role in ("validation", "hpatches") for name in sorted(ranked(USUAL_RANK)))


@dataclass(frozen=True)
class _Lived:
    """Holds a trial with its records, and how far it has come."""

    trial: Trial
    records: Sequence[Record]
    progress: Progress


def labels_of(sweep: StoredSweep) -> dict[str, str]:
    """Returns the row of every trial, by its key."""
    definition = SweepDefinition.load(sweep.store)
    return label_trials(sweep.trials(), definition.names if definition is not None else {})


def baselines_of_rows(sweep: StoredSweep) -> dict[str, str]:
    """Returns the row that each row is compared with, as the sweep's file says; empty if it says nothing.

    A baseline need not have been started.
    """
    definition = sweep.definition
    if not definition.baseline:
        return {}
    started = sweep.trials()
    keys = {trial.key for trial in started}
    planned = [
        Trial(TrainConfig.from_dict(config)) for key, config in definition.trials.items() if key not in keys
    ]
    trials = [*started, *planned]
    labels = label_trials(trials, definition.names) | label_trials(started, definition.names)
    return find_baselines(trials, labels, definition.baseline)


def compared(
    sweep: StoredSweep,
    role: str,
    trials: Sequence[Trial] | None = None,
    labels: Rows | None = None,
) -> tuple[list[Variant], Standing]:
    """Returns the networks of a sweep, each as a variant of its own, and the sweep's standing.

    Each network is taken from the epoch at which its row can be compared; a row without any score has the
    last epochs of its trainings. Networks come in the order of the definition, then those that the scheduler
    stopped, then untrained ones.

    Args:
        sweep: finished or not.
        role: of the benchmark; empty: the sweep has none, its losses are compared.
        trials: which of the trials; None: all.
        labels: their rows, by key; None: those of the whole sweep.
    """
    definition = sweep.definition
    lived = _lived(sweep, role or TRAIN, trials, labels or labels_of(sweep))
    # Of a sweep that stops when it knows, those trials count that it has started.
    planned = {} if definition.asked else definition.trials
    total = sum(config.get("epochs", 1) > 0 for config in planned.values())
    standing = Standing.of([one.progress for one in lived], total)
    order = {key: place for place, key in enumerate(definition.trials)}
    lived.sort(
        key=lambda one: (
            not one.progress.epochs,
            one.progress.stopped,
            order.get(one.trial.key, len(order)),
        )
    )
    found = []
    for one in lived:
        epoch = standing.epochs.get(one.progress.row)
        if epoch is None:
            found.append(_variant(sweep, one, role, latest(one.records), definition.metric))
        elif epoch in one.progress.scored:
            network = _variant(sweep, one, role, epoch, definition.metric)
            # A score whose table is lost does not count.
            if network.evaluations or not role:
                found.append(replace(network, as_asked=standing.varied and one.progress.is_complete))
    return found, standing


def _lived(sweep: StoredSweep, role: str, trials: Sequence[Trial] | None, labels: Rows) -> list[_Lived]:
    """Reads the trials' records, and how far each trial has come in the scores of a benchmark."""
    found = []
    for trial in sweep.trials() if trials is None else trials:
        history = sweep.history(trial)
        records = history.records()
        scored = frozenset(r.epoch for r in records if r.kind == role and r.error is None)
        progress = Progress(labels[trial.key], trial.config.epochs, scored)
        if not progress.is_complete:
            stopped = history.stopped_after is not None
            progress = replace(progress, stopped=stopped, failed=history.failure is not None)
        found.append(_Lived(trial, records, progress))
    return found


def _variant(sweep: StoredSweep, one: _Lived, role: str, epoch: int, decides: str) -> Variant:
    """Makes a variant of a trial's network at one epoch, with its scores if it has any."""
    config, records = one.trial.config, one.records
    metrics = {key: value for r in records if r.epoch == epoch for key, value in r.metrics.items()}
    scored = [r for r in records if (r.kind, r.epoch) == (role, epoch) and r.evaluation is not None]
    followed = [*LOSSES, *(f"{role}/{name}" for name in sorted(ranked(2)))]
    curves = {metric: _curve(records, metric) for metric in followed if config.epochs}
    shown = [key for key in dict.fromkeys((*SCORES, *LOSSES, decides)) if not key.startswith(f"{role}/")]
    # A network that was never trained is flat by nature.
    warnings = tuple(collapse_warnings(metrics)) if epoch else ()
    # The released network is one network, whatever seed its row carries.
    seeds = (config.seed,) if config.epochs or config.init == SCRATCH else None
    return Variant(
        one.progress.row,
        tuple(read_evaluation(sweep.history(one.trial), record) for record in scored),
        seeds,
        (epoch,),
        collapsed=bool(warnings),
        warnings=warnings,
        further=({key: metrics[key] for key in shown if key in metrics},),
        curves=({metric: points for metric, points in curves.items() if points},),
        origin=sweep.name,
    )


def latest(records: Sequence[Record]) -> int:
    """Returns the last epoch that was scored; if none was, the last one that was trained."""
    scored = [record.epoch for record in records if record.kind != TRAIN and record.error is None]
    return max(scored or [record.epoch for record in records] or [0])


def _curve(records: Sequence[Record], metric: str) -> Curve:
    points = {r.epoch: r.metrics[metric] for r in records if math.isfinite(r.metrics.get(metric, math.nan))}
    return tuple(sorted(points.items()))
