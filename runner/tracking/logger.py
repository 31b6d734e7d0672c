"""Makes MLflow's runs equal to the histories of trials, and logs the summary of a sweep."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

from mlflow.entities import Run
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE

from r2d2.source_code import SourceCode
from r2d2.storage.location import open_store
from runner.record.checkpoints import existing
from runner.record.history import History, Record, final_scores, read_evaluation, read_maps
from runner.record.incidents import TAG as INCIDENTS
from runner.record.incidents import incidents
from runner.record.layout import TRIAL_CONFIG
from runner.record.provenance import Provenance
from runner.record.sweep import Ending
from runner.tracking.experiments import SUMMARY, Tracker
from runner.tracking.files import Files, checkpoint_file, final_files, score_files
from runner.tracking.note import SweepIdentity
from runner.tracking.run import (
    MAX_TAG_LENGTH,
    REASON,
    ROLE,
    TrialRun,
    checkpoint_tags,
    dataset_tag,
    rounded,
)
from runner.tracking.store import TrackingError, as_tracking_error
from runner.tracking.tables import VIEW_TAG, LoggedTable, view_state
from search_spaces.sweep import Trial

# How many events of its trial a run holds. It is restored, deleted and copied with the run.
EVENTS = "r2d2.events"
# MLflow's tag of an experiment: which pages it shows, those of trainings and not of chat traces.
EXPERIMENT_KIND = "mlflow.experimentKind"

# How far a trial is, by its history or by its run in MLflow: number of events, status, reason of the status.
_State = tuple[int, str, str | None]


class RunLogger:
    """Logs trials, each in a run of its own; used by one thread at a time."""

    def __init__(self, tracker: Tracker, sweep: SweepIdentity) -> None:
        self._tracker, self._sweep = tracker, sweep
        self._experiment: str | None = None
        self._open: dict[str, TrialRun] = {}
        # How far MLflow was when it was asked for its runs, or has come since; by key.
        self._states: dict[str, _State] = {}

    def experiment(self) -> str:
        """Returns the id of the sweep's experiment, made if it is new; earlier runs are compared first.

        Raises:
            ValueError: if they used other images: their figures do not belong into the same runs.
            TrackingError: if MLflow does not answer.
        """
        if self._experiment is None:
            sweep = self._sweep
            view = view_state(sweep.metric, sweep.mode, sweep.roles)
            tags = {EXPERIMENT_KIND: "custom_model_development", VIEW_TAG: view}
            experiment = self._tracker.open_experiment(sweep.name, tags, {MLFLOW_RUN_NOTE: sweep.question})
            runs = self._tracker.runs_by_key(experiment)
            for run in runs.values():
                self._refuse_other_images(run.data.tags)
            self._states = {key: _state_of_run(run) for key, run in runs.items()}
            self._experiment = experiment
        return self._experiment

    def log(self, trial: Trial, history: History, ending: Ending | None) -> None:
        """Logs what MLflow does not have of a trial; None: it goes on.

        Raises:
            TrackingError: if MLflow does not take it; the same may be logged again.
            ValueError: if the run in MLflow is of something else.
        """
        experiment, records = self.experiment(), history.records()
        if trial.key not in self._open and self._has_all(trial, records, ending):
            return
        try:
            if trial.key not in self._open:
                self._open[trial.key] = self._open_run(experiment, trial, history, records)
            run = self._open[trial.key]
            if ending is None:
                self._log(run, history, records, {}, {})
                return
            files, tags = self._final(run, history, records)
            self._log(run, history, records, files, tags)
            times = [record.time for record in records if record.time is not None]
            run.finish(ending.status, ending.reason, max(times, default=None))
        except TrackingError:
            # What MLflow has of it is unknown, and perhaps its run is gone: it is asked again.
            self._open.pop(trial.key, None)
            self._states.pop(trial.key, None)
            raise
        del self._open[trial.key]
        self._states[trial.key] = _state_of(records, ending)

    def _log(
        self,
        run: TrialRun,
        history: History,
        records: Sequence[Record],
        files: Files,
        tags: Mapping[str, str],
    ) -> None:
        """Logs files first: figures that MLflow has are known to have their tables and pictures."""
        events = [record for record in records if record.error is None]
        due = [record for record in events if not run.has(record)]
        files, tags = dict(files), {**tags, EVENTS: str(len(events))}
        for record in due:
            if record.evaluation is not None:
                evaluation, maps = read_evaluation(history, record), read_maps(history, record)
                tags |= run.score_tags(evaluation, record.kind)
                files |= score_files(evaluation, record.epoch, record.kind, maps)
        run.log_files(files)
        sentences = "\n".join(incident.text for incident in incidents(history))
        if sentences:
            tags[INCIDENTS] = sentences[-MAX_TAG_LENGTH:]
        run.log(due, tags)

    def _final(
        self, run: TrialRun, history: History, records: Sequence[Record]
    ) -> tuple[Files, dict[str, str]]:
        """Returns the files and tags of a trial that has ended."""
        files, tags = Files(), dict[str, str]()
        there = existing(records, history.store.timeout)
        best = best_record(records, self._sweep.metric, self._sweep.mode, there)
        if best is not None:
            kept = {r.epoch: r.checkpoint for r in records if r.checkpoint in there}
            files |= checkpoint_file(best.epoch, kept)
            tags |= checkpoint_tags(best.checkpoint, best.epoch, records[-1].checkpoint)
        listed: list[str] = []
        for record in final_scores(records):
            pictures, tables = final_files(read_evaluation(history, record), record.kind)
            files |= pictures | tables
            listed += tables
        return files, tags | run.table_tag(listed)

    def _open_run(
        self, experiment: str, trial: Trial, history: History, records: Sequence[Record]
    ) -> TrialRun:
        config = trial.config
        tags = {
            "sweep": self._sweep.name,
            "variant": trial.variant,
            "reliability": config.loss.reliability,
            "similarity": config.loss.similarity,
            "init": config.init,
            "seed": str(config.seed),
            ROLE: "trial" if config.epochs else "baseline",
            **{dataset_tag(use.context): use.digest for use in self._sweep.datasets},
        }
        name, datasets = f"{trial.variant}, seed {config.seed}", self._sweep.datasets
        began, code = _started(history), _code_of(history, records)
        return self._tracker.open_run(experiment, trial.key, name, tags, config.flat(), datasets, began, code)

    def log_summary(
        self, text: str, table: LoggedTable, best: Mapping[str, float], files: Mapping[str, str | bytes]
    ) -> str:
        """Logs the outcome of the sweep, in place of a former summary, and returns the id of its run.

        Args:
            text: what the pages of the run and of the experiment say of it.
            table: one line per variant, for MLflow's table view; it is `variants.json`.
            best: the deciding metric and its best value, by which MLflow orders the summary among the trials;
                empty if no trial has it.
            files: the comparison in several forms, by file name.

        Raises:
            TrackingError: if MLflow does not take it.
        """
        experiment, client = self.experiment(), self._tracker.client
        # Also removes runs of trials whose creation was answered too late.
        self._tracker.runs_by_key(experiment)
        note = {MLFLOW_RUN_NOTE: text[:MAX_TAG_LENGTH]}
        tags = {"sweep": self._sweep.name, ROLE: SUMMARY, "variant": SUMMARY, **note}
        run = self._tracker.open_run(experiment, SUMMARY, SUMMARY, tags, {})
        with as_tracking_error():
            for key, value in best.items():
                # In place of the former one: a later time counts among figures of one step.
                client.log_metric(run.run_id, key, rounded(value))
            client.set_experiment_tag(experiment, MLFLOW_RUN_NOTE, note[MLFLOW_RUN_NOTE])
        run.log_files({**files, "variants.json": table.json()})
        run.log((), run.table_tag(["variants.json"]))
        run.finish("FINISHED")
        return run.run_id

    def _refuse_other_images(self, tags: Mapping[str, str]) -> None:
        for use in self._sweep.datasets:
            former = tags.get(dataset_tag(use.context), use.digest)
            if former != use.digest:
                raise ValueError(
                    f"MLflow has runs of a sweep '{self._sweep.name}' with other images for "
                    f"{use.context} (digest {former[:12]}, now {use.digest[:12]}); give the new one a "
                    "name of its own with --name"
                )

    def _has_all(self, trial: Trial, records: Sequence[Record], ending: Ending | None) -> bool:
        """Says whether MLflow has said that it has all this; of a trial that runs, all its events."""
        state, wanted = self._states.get(trial.key), _state_of(records, ending)
        if state is None or ending is not None:
            return state == wanted
        return state[0] == wanted[0]


def _state_of(records: Sequence[Record], ending: Ending | None) -> _State:
    ending = ending or Ending("FINISHED")
    reason = None if ending.reason is None else ending.reason[:MAX_TAG_LENGTH]
    return sum(r.error is None for r in records), ending.status, reason


def _state_of_run(run: Run) -> _State:
    return int(run.data.tags.get(EVENTS, -1)), run.info.status, run.data.tags.get(REASON)


def best_record(records: Sequence[Record], metric: str, mode: str, there: Collection[str]) -> Record | None:
    """Finds the score with the best value of the metric whose checkpoint still exists; None if none does.

    Args:
        records: events of a trial.
        metric: the deciding metric.
        mode: `max` or `min`.
        there: the checkpoints that still are.
    """
    sign = 1 if mode == "max" else -1
    scored = [r for r in records if not math.isnan(r.metrics.get(metric, math.nan)) and r.checkpoint in there]
    return max(scored, key=lambda r: (sign * r.metrics[metric], r.epoch), default=None)


def _code_of(history: History, records: Sequence[Record]) -> SourceCode | None:
    """Returns the code that began a trial; None if that was not recorded, as before its first event."""
    attempt = records[0].attempt if records else None
    if attempt is None:
        return None
    sweep = open_store(history.store.place.rsplit("/", 3)[0], history.store.timeout)
    record = Provenance.load(sweep, attempt)
    return None if record is None else record.code


def _started(history: History) -> int | None:
    """Returns when a trial began, in milliseconds since 1970; None if that is not known."""
    above = open_store(history.store.place.rpartition("/")[0], history.store.timeout)
    [config] = above.find_all([TRIAL_CONFIG])
    return None if config is None else int(config.modified * 1000)
