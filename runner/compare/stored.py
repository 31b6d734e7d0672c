"""Reads a stored sweep, finished or not, for a comparison: its rows, their networks, its standing.

Rows that were trained for different numbers of epochs say nothing about their losses. A running sweep is
therefore compared at the last epoch that all rows have; a row that the scheduler stopped earlier is shown at
its own last epoch.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from evaluation.metrics.figure import USUAL_RANK
from evaluation.metrics.pair_metrics import ranked
from evaluation.statistics.variants import Curve, Variant
from r2d2.collapse import collapse_warnings
from r2d2.config import SCRATCH, TrainConfig
from r2d2.training.metrics import LOSSES
from runner.compare.rows import find_baselines, label_trials
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


@dataclass(frozen=True)
class Progress:
    """A Progress says how far one trial has come.

    Attributes:
        row: the row it belongs to.
        epochs: for how many it is to be trained; 0: a starting network.
        scored: the epochs that have the score in question.
        stopped: whether the scheduler has stopped it.
        failed: whether its last attempt failed.
    """

    row: str
    epochs: int
    scored: frozenset[int]
    stopped: bool = False
    failed: bool = False

    @property
    def is_complete(self) -> bool:
        """Says whether its last epoch is scored."""
        return self.epochs in self.scored

    @property
    def has_ended(self) -> bool:
        """Says whether it stays as it is unless somebody continues it."""
        return self.is_complete or self.stopped or self.failed


@dataclass(frozen=True)
class Standing:
    """A Standing says at which epoch each row is shown, and what a reader must know.

    Attributes:
        epochs: by row; rows without any score are not there.
        varied: whether the number of epochs is what rows were made to differ in.
        words: what a reader must know, a sentence; empty once all trials have ended alike.
    """

    epochs: Mapping[str, int]
    varied: bool
    words: str

    @classmethod
    def of(cls, trials: Sequence[Progress], total: int = 0) -> Standing:
        """Finds the standing of a sweep.

        Args:
            trials: those that were started, starting networks among them.
            total: how many trainings the sweep has; those that were started, if more.
        """
        trained = [trial for trial in trials if trial.epochs]
        rows: dict[str, list[Progress]] = {}
        for trial in trials:
            rows.setdefault(trial.row, []).append(trial)
        varied = len({trial.epochs for trial in trained}) > 1
        going = {
            name: _common(row)
            for name, row in rows.items()
            if row[0].epochs and _common(row) and not any(trial.stopped for trial in row)
        }
        together = set.intersection(*going.values()) if going and not varied else set()
        limit = max(together, default=None)
        epochs = {name: _shown(_common(row), limit if row[0].epochs else None) for name, row in rows.items()}
        known = {name: epoch for name, epoch in epochs.items() if epoch is not None}
        return cls(known, varied, _words(trained, max(total, len(trained)), known, limit))


def _common(row: Sequence[Progress]) -> set[int]:
    """Returns the epochs that the trials of a row have in common; all epochs if the scheduler stops trials.

    A failed trial does not limit the others.
    """
    scored = [trial for trial in row if trial.scored]
    alive = [trial for trial in scored if not trial.failed] or scored
    counts = Counter(epoch for trial in scored for epoch in trial.scored)
    wanted = len(alive) if any(trial.stopped for trial in row) else min(2, len(alive))
    return {epoch for epoch, count in counts.items() if count >= wanted}


def _shown(epochs: Iterable[int], limit: int | None) -> int | None:
    """Returns the last epoch up to the limit; if there is none, the row's last one."""
    ordered = sorted(epochs)
    return max((epoch for epoch in ordered if limit is None or epoch <= limit), default=None) or max(
        ordered, default=None
    )


def _words(trials: Sequence[Progress], total: int, epochs: Mapping[str, int], limit: int | None) -> str:
    ended = sum(trial.has_ended for trial in trials)
    missing = sum(epochs.get(trial.row) not in trial.scored for trial in trials)
    beyond = max((max(trial.scored, default=0) for trial in trials), default=0)
    parts = [f"{ended} of {total} trials ended"] if ended < total else []
    if limit is not None and beyond > limit:
        parts += [f"compared at epoch {limit}, the last that all rows have"]
    short = [name for name, epoch in epochs.items() if limit is not None and 0 < epoch < limit]
    if short:
        rows = "1 row was" if len(short) == 1 else f"{len(short)} rows were"
        parts += [f"{rows} stopped early by the scheduler and can have no verdict"]
    if missing:
        parts += [f"left out for want of a score: {missing} trial{'s' * (missing > 1)}"]
    text = "; ".join(parts)
    return f"{text[:1].upper()}{text[1:]}." if text else ""
