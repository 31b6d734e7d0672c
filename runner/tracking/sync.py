"""Teller: makes MLflow's runs equal to the histories of trials, with one request of figures per epoch."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from mlflow.entities import Run

from r2d2.storage.open import open_store
from runner.record.checkpoints import existing
from runner.record.history import (
    TRAIN,
    TRIAL_CONFIG,
    History,
    Record,
    final_scores,
    read_evaluation,
    read_maps,
)
from runner.record.incidents import TAG as INCIDENTS
from runner.record.incidents import incidents
from runner.record.sweep import Ending
from runner.tracking import run_table
from runner.tracking.experiments import Tracker, TrackingError, TrialRun
from runner.tracking.run import (
    MAX_TAG_LENGTH,
    REASON,
    DatasetUse,
    Figures,
    checkpoint_file,
    checkpoint_tags,
    dataset_tag,
    final_files,
)
from search_spaces.sweep import Trial

# How many events of its trial a run holds: what MLflow has is told by MLflow alone.
EVENTS = "r2d2.events"
# MLflow's tags of an experiment: which pages it shows (those of trainings, not of chat traces), and its text.
EXPERIMENT_KIND, NOTE = "mlflow.experimentKind", "mlflow.note.content"


@dataclass(frozen=True)
class SweepIdentity:
    """What all runs of a sweep share.

    Attributes:
        name: of the sweep, and of its experiment.
        metric, mode: the score that decides.
        question: the sweep's docstring.
        datasets: training photographs and benchmarks.
    """

    name: str
    metric: str
    mode: str
    question: str
    datasets: tuple[DatasetUse, ...]

    @property
    def roles(self) -> tuple[str, ...]:
        """The benchmarks that every checkpoint is scored on."""
        return tuple(use.context for use in self.datasets if use.context != "training")


@dataclass(frozen=True)
class _State:
    """How far a trial is, as its history has it or as its run in MLflow says."""

    events: int
    status: str
    reason: str | None

    @classmethod
    def of_history(cls, records: Sequence[Record], ending: Ending | None) -> _State:
        ending = ending or Ending("FINISHED")
        reason = None if ending.reason is None else ending.reason[:MAX_TAG_LENGTH]
        return cls(sum(r.error is None for r in records), ending.status, reason)

    @classmethod
    def of_run(cls, run: Run) -> _State:
        tags = run.data.tags
        return cls(int(tags.get(EVENTS, -1)), run.info.status, tags.get(REASON))


@dataclass
class _Told:
    """What MLflow has been told of a trial by this process."""

    run: TrialRun
    events: set[str]
    closed: int = 0


class Teller:
    """Tells MLflow of trials; used by one thread at a time."""

    def __init__(self, tracker: Tracker, sweep: SweepIdentity) -> None:
        self._tracker, self._sweep = tracker, sweep
        self._told: dict[str, _Told] = {}
        self._experiment: str | None = None
        # The experiment's runs by key; None: not known, or no longer for sure.
        self._known: dict[str, Run] | None = None
        # What MLflow has of trials, as it said when asked for its runs, or has taken since; by key.
        self._states: dict[str, _State] = {}

    def experiment(self) -> str:
        """The id of the sweep's experiment, made if it is new; earlier runs of it are compared first.

        Raises:
            ValueError: if they used other images: their figures do not belong into the same runs.
            TrackingError: if MLflow does not answer.
        """
        if self._experiment is None:
            tags = {EXPERIMENT_KIND: "custom_model_development"}
            tags[run_table.TAG] = run_table.view_state(
                self._sweep.metric, self._sweep.mode, self._sweep.roles
            )
            experiment = self._tracker.open_experiment(self._sweep.name, tags, {NOTE: self._sweep.question})
            for run in self._look(experiment).values():
                self._refuse_other_images(run.data.tags)
            self._experiment = experiment
        return self._experiment

    def tell(self, trial: Trial, history: History, ending: Ending | None) -> None:
        """Tells what is due: complete epochs of a trial that runs, everything of one that ended.

        Raises:
            TrackingError: if MLflow does not take it; the same may be told again.
            ValueError: if the run in MLflow is of something else.
        """
        records = history.records()
        former = self._told.get(trial.key)
        if former is None and self._has_all(trial, records, ending):
            return
        closed = closed_epoch(records, self._sweep.roles, trial.config.epochs)
        if ending is None and closed <= (former.closed if former else 0):
            return
        try:
            told = former or self._open(trial, history)
            due = [r for r in records if r.error is None and r.name not in told.events]
            if ending is None:
                due = [r for r in due if r.epoch <= closed]
                events = sum(r.error is None and r.epoch <= closed for r in records)
                self._send(told.run, history, due, {}, {EVENTS: str(events)})
            else:
                self._end(told.run, history, records, due, ending)
        except TrackingError:
            # Perhaps its run is gone: MLflow is asked for it again.
            self._known = None
            self._told.pop(trial.key, None)
            raise
        told.events |= {r.name for r in due}
        told.closed = closed
        if ending is not None:
            self._told.pop(trial.key, None)
            self._states[trial.key] = _State.of_history(records, ending)

    def remove_empty_runs(self) -> None:
        """Removes runs whose creation MLflow carried out, but answered too late.

        Raises:
            TrackingError: if MLflow does not answer.
        """
        if self._known is None and self._experiment is not None:
            self._look(self._experiment)

    def _send(
        self,
        run: TrialRun,
        history: History,
        due: Sequence[Record],
        files: Mapping[str, str | bytes],
        tags: Mapping[str, str],
    ) -> None:
        """Files first: figures that MLflow has are known to have their tables and pictures."""
        times = _event_times(history)
        figures = [Figures(r.epoch, r.metrics, times.get(r.name)) for r in due]
        files, tags = dict(files), dict(tags)
        for record, event in zip(due, figures, strict=True):
            if record.evaluation is not None and not run.has(event):
                evaluation, maps = read_evaluation(history, record), read_maps(history, record)
                tags |= run.score_tags(evaluation, record.kind)
                files |= run.score_files(evaluation, record.epoch, record.kind, maps)
        if files:
            run.log_files(files)
        befell = "\n".join(incident.text for incident in incidents(history))
        if befell:
            tags[INCIDENTS] = befell[-MAX_TAG_LENGTH:]
        run.log_figures_of(figures, tags)

    def _end(
        self,
        run: TrialRun,
        history: History,
        records: Sequence[Record],
        due: Sequence[Record],
        ending: Ending,
    ) -> None:
        files: dict[str, str | bytes] = {}
        tags = {EVENTS: str(sum(r.error is None for r in records))}
        there = existing(records, history.store.timeout)
        best = best_record(records, self._sweep.metric, self._sweep.mode, there)
        if best is not None:
            kept = {r.epoch: r.checkpoint for r in records if r.checkpoint in there}
            files |= checkpoint_file(best.epoch, kept)
            tags |= checkpoint_tags(best.checkpoint, best.epoch, records[-1].checkpoint)
        listed: list[str] = []
        for record in final_scores(records):
            pictures, tables = final_files(read_evaluation(history, record), record.kind)
            files |= pictures | {name: table.json() for name, table in tables.items()}
            listed += tables
        if listed:
            tags |= run.table_tag(listed)
        self._send(run, history, due, files, tags | run.reason_tag(ending.reason))
        run.finish(ending.status, time=max(_event_times(history).values(), default=None))

    def _open(self, trial: Trial, history: History) -> _Told:
        experiment = self.experiment()
        runs = self._look(experiment) if self._known is None else self._known
        config = trial.config
        tags = {
            "sweep": self._sweep.name,
            "variant": trial.variant,
            "reliability": config.loss.reliability,
            "similarity": config.loss.similarity,
            "init": config.init,
            "seed": str(config.seed),
            "role": "trial" if config.epochs else "baseline",
            **{dataset_tag(use.context): use.digest for use in self._sweep.datasets},
        }
        known = runs.get(trial.key)
        if known is not None:
            self._refuse_other_images(known.data.tags)
        run = self._tracker.open_run(
            experiment,
            trial.key,
            f"{trial.variant}, seed {config.seed}",
            tags,
            config.flat(),
            known=runs,
            started=_started(history),
        )
        run.log_datasets(self._sweep.datasets)
        return self._told.setdefault(trial.key, _Told(run, set()))

    def _refuse_other_images(self, tags: Mapping[str, str]) -> None:
        for use in self._sweep.datasets:
            former = tags.get(dataset_tag(use.context), use.digest)
            if former != use.digest:
                raise ValueError(
                    f"MLflow has runs of a sweep '{self._sweep.name}' with other images for "
                    f"{use.context} (digest {former[:12]}, now {use.digest[:12]}); give the new one a "
                    "name of its own with --name"
                )

    def _look(self, experiment: str) -> dict[str, Run]:
        """Asks MLflow for the runs of an experiment, by their keys."""
        self._known = self._tracker.runs_by_key(experiment)
        self._states = {key: _State.of_run(run) for key, run in self._known.items()}
        return self._known

    def _has_all(self, trial: Trial, records: Sequence[Record], ending: Ending | None) -> bool:
        """Whether MLflow says that it has all this; of a trial that runs, all its events."""
        experiment = self.experiment()
        if self._known is None:
            self._look(experiment)
        state, wanted = self._states.get(trial.key), _State.of_history(records, ending)
        if state is None or ending is not None:
            return state == wanted
        return state.events == wanted.events


def closed_epoch(records: Sequence[Record], roles: Collection[str], epochs: int) -> int:
    """The last epoch of a trial that runs whose figures are to be sent now.

    An epoch is sent when it is trained and scored, or when the next one is trained: what is scored later
    travels with the next one. The last epoch travels with what is said of the trial's end. So there are never
    more requests than epochs.

    Args:
        records: the trial's events.
        roles: the benchmarks that every checkpoint is scored on.
        epochs: of the complete trial.
    """
    newest = max((r.epoch for r in records if r.kind == TRAIN), default=0)
    seen = {r.kind for r in records if r.epoch == newest}
    return newest if newest < epochs and seen >= set(roles) else newest - 1


def best_record(records: Sequence[Record], metric: str, mode: str, there: Collection[str]) -> Record | None:
    """The score with the best value of the metric whose checkpoint is still there; None if there is none.

    Args:
        records: events of a trial.
        metric: that decides.
        mode: `max` or `min`.
        there: the checkpoints that still are.
    """
    sign = 1 if mode == "max" else -1
    scored = [r for r in records if not math.isnan(r.metrics.get(metric, math.nan)) and r.checkpoint in there]
    return max(scored, key=lambda r: (sign * r.metrics[metric], r.epoch), default=None)


def _event_times(history: History) -> dict[str, int]:
    """When each event happened, in milliseconds since 1970, by its name."""
    return {f.name: int(f.modified * 1000) for f in history.store.files() if f.name.startswith("epoch_")}


def _started(history: History) -> int | None:
    """When a trial began, in milliseconds since 1970; None if that is not known."""
    above = open_store(history.store.place.rpartition("/")[0], history.store.timeout)
    [config] = above.find_all([TRIAL_CONFIG])
    return None if config is None else int(config.modified * 1000)
