"""StoredSweep: what a sweep's folder holds, finished or not. It needs no Ray, no MLflow, no photographs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from evaluation.evaluation import Evaluation
from r2d2.collapse import collapse_warnings
from r2d2.config import SCRATCH, TrainConfig
from r2d2.formats.stored_json import parse_json
from r2d2.storage.depot import Depot, depot_at, folder_of, open_depot
from r2d2.unknown import did_you_mean
from runner.contender import Contender
from runner.controls import BESIDE, find_controls
from runner.definition import FILE as DEFINITION
from runner.definition import SweepDefinition
from runner.history import HISTORY, TRIAL_CONFIG, History, Record, read_evaluation
from runner.incidents import incidents
from runner.standing import Progress, Standing
from runner.table import COLUMNS, Outcome, Row, figures_at, latest, rows
from search_spaces.sweep import Trial

TRIALS = "trials"
QUESTION = "question.txt"
# What a variant's name or the columns of the table say already.
IN_VARIANT = ("seed", "loss.reliability", "loss.similarity", "init")
# What is followed through a training, beside its scores.
LOSSES = ("train/loss_total", "train/loss_reliability", "train/loss_similarity", "train/loss_peakiness")


class StoredSweep:
    """The trials of one sweep, in a folder or on S3."""

    def __init__(self, place: str | Path | Depot) -> None:
        self.depot = depot_at(place)

    @property
    def name(self) -> str:
        """The sweep's name, the last of its place."""
        return self.depot.place.rpartition("/")[2]

    @property
    def folder(self) -> Path:
        """Where the sweep lies, if that is a folder."""
        return folder_of(self.depot)

    @property
    def definition(self) -> SweepDefinition:
        """What the sweep was started with.

        Raises:
            ValueError: if there is no such sweep; names those there are.
        """
        definition = SweepDefinition.load(self.depot)
        if definition is None:
            above = self.depot.place.rpartition("/")[0]
            known = sweep_names(open_depot(above, self.depot.patience))
            raise ValueError(
                f"there is no sweep '{self.name}' in {above}; known: {', '.join(known) or 'none'}"
                f"{did_you_mean(self.name, known)}"
            )
        return definition

    @property
    def question(self) -> str:
        """What the sweep asks, as it was written down when it last ran; empty if it was not."""
        return (self.depot.read(QUESTION) or b"").decode()

    def trials(self) -> list[Trial]:
        """The trials that were started, the oldest first.

        Raises:
            ValueError: if one was written by a version of this program with other settings.
        """
        names = [f"{TRIALS}/{key}/{TRIAL_CONFIG}" for key in self.depot.folders(TRIALS)]
        found = sorted(filter(None, self.depot.find_all(names)), key=lambda file: file.modified)
        contents = self.depot.read_all(found)
        return [
            _read_trial(f"{self.depot.place}/{file.name}", content)
            for file, content in zip(found, contents, strict=True)
            if content is not None
        ]

    def trial_depot(self, trial: Trial) -> Depot:
        """Holds the trial's configuration, history and checkpoints."""
        return self.depot.below(f"{TRIALS}/{trial.key}")

    def trial_folder(self, trial: Trial) -> Path:
        """The same as a folder, if it is one."""
        return folder_of(self.trial_depot(trial))

    def history(self, trial: Trial) -> History:
        """What the trial has lived through."""
        return History(self.trial_depot(trial).below(HISTORY))

    def has_ended(self, trial: Trial, roles: Sequence[str]) -> bool:
        """Whether the trial was trained and scored on these benchmarks, or stopped by its scheduler."""
        history = self.history(trial)
        return history.stopped_after is not None or history.is_complete(trial.config.epochs, roles)

    def labels(self) -> dict[str, str]:
        """The row of every trial, by its key."""
        definition = SweepDefinition.load(self.depot)
        return label_trials(self.trials(), definition.names if definition is not None else {})

    def controls(self) -> dict[str, str]:
        """The row that each row is compared with, as the sweep's file asks; empty if it does not.

        A control need not have been started.
        """
        definition = self.definition
        if not definition.baseline:
            return {}
        started = self.trials()
        keys = {trial.key for trial in started}
        planned = [
            Trial(TrainConfig.from_dict(config))
            for key, config in definition.trials.items()
            if key not in keys
        ]
        trials = [*started, *planned]
        labels = label_trials(trials, definition.names) | label_trials(started, definition.names)
        return find_controls(trials, labels, definition.baseline)

    def contenders(
        self, role: str, trials: Sequence[Trial] | None = None, labels: Mapping[str, str] | None = None
    ) -> list[Contender]:
        """The networks with scores on one benchmark, as `compared`."""
        return self.compared(role, trials, labels)[0]

    def compared(
        self, role: str, trials: Sequence[Trial] | None = None, labels: Mapping[str, str] | None = None
    ) -> tuple[list[Contender], Standing]:
        """The networks with scores on one benchmark, and where the sweep stands.

        Each network is that of the epoch at which its row can be compared. They come in the order of the
        definition, those that the scheduler stopped behind the others, untrained ones last.

        Args:
            role: of the benchmark.
            trials: which of the trials; None: all.
            labels: their rows, by key; None: those of the whole sweep.
        """
        lived = self._lived(role, trials, labels or self.labels())
        standing = self._standing(lived)
        order = {key: place for place, key in enumerate(self.definition.trials)}
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
                    evaluation = read_evaluation(self.history(one.trial), record)
                    contender = self._contender(one.trial, one.progress.row, one.records, record, evaluation)
                    as_asked = standing.varied and one.progress.is_complete
                    found.append(replace(contender, as_asked=as_asked))
        return found, standing

    def _lived(self, role: str, trials: Sequence[Trial] | None, labels: Mapping[str, str]) -> list[_Lived]:
        """What the trials have lived through, and how far they have come in the scores of a benchmark."""
        found = []
        for trial in self.trials() if trials is None else trials:
            history = self.history(trial)
            records = history.records()
            scored = frozenset(r.epoch for r in records if r.kind == role and r.error is None)
            progress = Progress(labels[trial.key], trial.config.epochs, scored)
            if not progress.is_complete:
                stopped = history.stopped_after is not None
                progress = replace(progress, stopped=stopped, failed=history.failure is not None)
            found.append(_Lived(trial, records, progress))
        return found

    def _standing(self, lived: Sequence[_Lived]) -> Standing:
        total = sum(config.get("epochs", 1) > 0 for config in self.definition.trials.values())
        return Standing.of([one.progress for one in lived], total)

    def _contender(
        self, trial: Trial, label: str, records: Sequence[Record], scored: Record, evaluation: Evaluation
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
            origin=self.name,
            # The released network is one network, whatever seed its row carries.
            seed=trial.config.seed if trained or trial.config.init == SCRATCH else None,
            epoch=epoch,
            figures={key: others[key] for key in (*COLUMNS, "train/loss_total") if key in others},
            collapsed=bool(epoch and collapse_warnings(metrics)),
            warnings=_warnings(self.history(trial), epoch, metrics),
            curves={metric: points for metric, points in curves.items() if points and trained},
        )

    def table(self, metric: str, mode: str) -> list[Row]:
        """One row per variant, sorted by the metric, each at the epoch at which it can be compared."""
        role = metric.rpartition("/")[0]
        lived = self._lived(role, None, self.labels())
        standing = self._standing(lived)
        outcomes = []
        for one in lived:
            epoch = standing.epochs.get(one.progress.row)
            if epoch is None:
                epoch, metrics = latest(one.records)
            else:
                metrics = figures_at(one.records, epoch) if epoch in one.progress.scored else {}
            warnings = _warnings(self.history(one.trial), epoch, metrics)
            row, seed = one.progress.row, one.trial.config.seed
            outcomes.append(Outcome(one.trial.key, row, seed, epoch, metrics, warnings))
        most = max(standing.epochs.values(), default=0)
        short = {row for row, epoch in standing.epochs.items() if 0 < epoch < most}
        asked = {one.progress.row for one in lived} if standing.varied else set()
        asked -= {one.progress.row for one in lived if not one.progress.is_complete}
        return rows(outcomes, metric, mode, below=short - asked)


@dataclass(frozen=True)
class _Lived:
    """A trial with its records, and how far it has come."""

    trial: Trial
    records: Sequence[Record]
    progress: Progress


def sweep_names(sweeps: Depot) -> list[str]:
    """The sweeps that were begun, by name."""
    names = sweeps.folders()
    found = sweeps.find_all(f"{name}/{DEFINITION}" for name in names)
    return [name for name, file in zip(names, found, strict=True) if file is not None]


def _read_trial(path: str, content: bytes) -> Trial:
    trial = Trial(parse_json(content, path, TrainConfig.from_dict))
    if trial.key != path.split("/")[-2]:
        raise ValueError(
            f"{path} was written by another version of this program, whose settings differ from today's; "
            "read that sweep with the version that its MLflow runs name (r2d2.code_version)"
        )
    return trial


def label_trials(trials: Sequence[Trial], names: Mapping[str, str] | None = None) -> dict[str, str]:
    """The row of every trial, by its key: its variant, and what else varies among them but the seed.

    Args:
        trials: of the table.
        names: by variant, what others call it.
    """
    flat = [trial.config.flat() for trial in trials if trial.config.epochs]
    others = [name for name in TrainConfig().flat() if name not in IN_VARIANT]
    varied = [name for name in others if len({config[name] for config in flat}) > 1]
    labels = {}
    for trial in trials:
        # A starting network differs by its architecture only.
        shown = [name for name in varied if trial.config.epochs or name.startswith("network.")]
        settings = [f"{name.rpartition('.')[2]}={_short(trial.config.flat()[name])}" for name in shown]
        own, other = ", ".join([trial.variant, *settings]), (names or {}).get(trial.variant)
        labels[trial.key] = f"{own}{BESIDE}{other}" if other else own
    return labels


def _warnings(history: History, epoch: int, metrics: Mapping[str, float]) -> tuple[str, ...]:
    """What spoils the figures of a trial."""
    spoilt = tuple(incident.text for incident in incidents(history) if incident.spoils)
    # A network that was never trained is flat by nature.
    return (*collapse_warnings(metrics), *spoilt) if epoch else spoilt


def _curve(records: Sequence[Record], metric: str) -> tuple[tuple[int, float], ...]:
    points = {r.epoch: r.metrics[metric] for r in records if math.isfinite(r.metrics.get(metric, math.nan))}
    return tuple(sorted(points.items()))


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
