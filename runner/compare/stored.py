"""A stored sweep, finished or not, as a comparison sees it: its rows, their contenders, its table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from evaluation.evaluation import Evaluation
from r2d2.collapse import collapse_warnings
from r2d2.config import SCRATCH, TrainConfig
from runner.compare.contenders import Contender
from runner.compare.controls import find_controls
from runner.compare.labels import label_trials
from runner.compare.standing import Progress, Standing
from runner.compare.table import COLUMNS, Outcome, Row, figures_at, latest, rows
from runner.record.definition import SweepDefinition
from runner.record.history import History, Record, read_evaluation
from runner.record.incidents import incidents
from runner.record.sweep import StoredSweep
from search_spaces.sweep import Trial

# The row of a trial, by its key.
Rows = Mapping[str, str]
# What is followed through a training, beside its scores.
LOSSES = ("train/loss_total", "train/loss_reliability", "train/loss_similarity", "train/loss_peakiness")


@dataclass(frozen=True)
class _Lived:
    """A trial with its records, and how far it has come."""

    trial: Trial
    records: Sequence[Record]
    progress: Progress


def labels_of(sweep: StoredSweep) -> dict[str, str]:
    """The row of every trial, by its key."""
    definition = SweepDefinition.load(sweep.store)
    return label_trials(sweep.trials(), definition.names if definition is not None else {})


def controls_of(sweep: StoredSweep) -> dict[str, str]:
    """The row that each row is compared with, as the sweep's file asks; empty if it does not.

    A control need not have been started.
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
    return find_controls(trials, labels, definition.baseline)


def contenders_of(
    sweep: StoredSweep,
    role: str,
    trials: Sequence[Trial] | None = None,
    labels: Rows | None = None,
) -> list[Contender]:
    """The networks with scores on one benchmark, as `compared`."""
    return compared(sweep, role, trials, labels)[0]


def compared(
    sweep: StoredSweep,
    role: str,
    trials: Sequence[Trial] | None = None,
    labels: Rows | None = None,
) -> tuple[list[Contender], Standing]:
    """The networks with scores on one benchmark, and where the sweep stands.

    Each network is that of the epoch at which its row can be compared. They come in the order of the
    definition, those that the scheduler stopped behind the others, untrained ones last.

    Args:
        sweep: finished or not.
        role: of the benchmark.
        trials: which of the trials; None: all.
        labels: their rows, by key; None: those of the whole sweep.
    """
    lived = _lived(sweep, role, trials, labels or labels_of(sweep))
    standing = _standing(sweep, lived)
    order = {key: place for place, key in enumerate(sweep.definition.trials)}
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
        for record in one.records:
            if (record.kind, record.epoch) == (role, epoch) and record.evaluation is not None:
                evaluation = read_evaluation(sweep.history(one.trial), record)
                contender = _contender(sweep, one.trial, one.progress.row, one.records, record, evaluation)
                as_asked = standing.varied and one.progress.is_complete
                found.append(replace(contender, as_asked=as_asked))
    return found, standing


def _lived(sweep: StoredSweep, role: str, trials: Sequence[Trial] | None, labels: Rows) -> list[_Lived]:
    """What the trials have lived through, and how far they have come in the scores of a benchmark."""
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


def _standing(sweep: StoredSweep, lived: Sequence[_Lived]) -> Standing:
    total = sum(config.get("epochs", 1) > 0 for config in sweep.definition.trials.values())
    return Standing.of([one.progress for one in lived], total)


def _contender(
    sweep: StoredSweep,
    trial: Trial,
    label: str,
    records: Sequence[Record],
    scored: Record,
    evaluation: Evaluation,
) -> Contender:
    epoch, role = scored.epoch, scored.kind
    metrics = figures_at(records, epoch)
    others = {key: value for key, value in metrics.items() if not key.startswith(f"{role}/")}
    followed = [*LOSSES, *(f"{role}/mma_{threshold}px" for threshold in (1, 3))]
    curves = {metric: _curve(records, metric) for metric in followed}
    trained = trial.config.epochs > 0
    return Contender(
        variant=label,
        evaluation=evaluation,
        origin=sweep.name,
        # The released network is one network, whatever seed its row carries.
        seed=trial.config.seed if trained or trial.config.init == SCRATCH else None,
        epoch=epoch,
        figures={key: others[key] for key in (*COLUMNS, "train/loss_total") if key in others},
        collapsed=bool(epoch and collapse_warnings(metrics)),
        warnings=_warnings(sweep.history(trial), epoch, metrics),
        curves={metric: points for metric, points in curves.items() if points and trained},
    )


def table_of(sweep: StoredSweep, metric: str, mode: str) -> list[Row]:
    """One row per variant, sorted by the metric, each at the epoch at which it can be compared."""
    role = metric.rpartition("/")[0]
    lived = _lived(sweep, role, None, labels_of(sweep))
    standing = _standing(sweep, lived)
    outcomes = []
    for one in lived:
        epoch = standing.epochs.get(one.progress.row)
        if epoch is None:
            epoch, metrics = latest(one.records)
        else:
            metrics = figures_at(one.records, epoch) if epoch in one.progress.scored else {}
        warnings = _warnings(sweep.history(one.trial), epoch, metrics)
        row, seed = one.progress.row, one.trial.config.seed
        outcomes.append(Outcome(one.trial.key, row, seed, epoch, metrics, warnings))
    most = max(standing.epochs.values(), default=0)
    short = {row for row, epoch in standing.epochs.items() if 0 < epoch < most}
    asked = {one.progress.row for one in lived} if standing.varied else set()
    asked -= {one.progress.row for one in lived if not one.progress.is_complete}
    return rows(outcomes, metric, mode, below=short - asked)


def _warnings(history: History, epoch: int, metrics: Mapping[str, float]) -> tuple[str, ...]:
    """What spoils the figures of a trial."""
    spoilt = tuple(incident.text for incident in incidents(history) if incident.spoils)
    # A network that was never trained is flat by nature.
    return (*collapse_warnings(metrics), *spoilt) if epoch else spoilt


def _curve(records: Sequence[Record], metric: str) -> tuple[tuple[int, float], ...]:
    points = {r.epoch: r.metrics[metric] for r in records if math.isfinite(r.metrics.get(metric, math.nan))}
    return tuple(sorted(points.items()))
