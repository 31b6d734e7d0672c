"""Reporter: tells MLflow what the trials' histories say. A Tune callback calls it in the sweep's driver."""

from __future__ import annotations

import contextlib
import json
import logging
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from r2d2.storage.errors import StorageError
from runner.attempt import Attempt
from runner.checkpoint_place import existing
from runner.history import History, Record, final_scores, put_json, read_evaluation, read_maps
from runner.incidents import TAG, incidents
from runner.logged_table import LoggedTable
from runner.table import Row, to_csv
from runner.tracking import DatasetUse, Tracker, TrackingError, TrialRun
from runner.trial_run import MAX_TAG_LENGTH, Status, dataset_tag
from search_spaces.sweep import Trial

log = logging.getLogger(__name__)

TOLD = "told.json"


@dataclass(frozen=True)
class SweepIdentity:
    """What all runs of a sweep share.

    Attributes:
        metric, mode: the score that decides.
        question: the sweep's docstring.
        datasets: training photographs and benchmarks.
    """

    name: str
    experiment_id: str
    metric: str
    mode: str
    question: str
    datasets: tuple[DatasetUse, ...]


class Reporter:
    """Keeps MLflow's runs equal to the histories of trials.

    What MLflow does not take is told again by `catch_up`, now or by a later attempt: the histories still have
    it, and no trial waits. How much of an ended trial was told stands beside its history.
    """

    def __init__(self, tracker: Tracker, sweep: SweepIdentity, attempt: Attempt | None = None) -> None:
        """A reporter.

        Args:
            tracker: the MLflow store.
            sweep: what all runs share.
            attempt: for which it tells: once a later one has taken over, telling anything raises
                SupersededError. None: nobody else tells.
        """
        self._tracker = tracker
        self._attempt = attempt
        self._sweep = sweep
        self._runs: dict[str, TrialRun] = {}
        self._away = False

    def refuse_other_images(self) -> None:
        """Compares what the sweep's earlier runs in MLflow were trained and scored on.

        Raises:
            ValueError: if it was something else: their figures do not belong into the same runs.
        """
        for run in self._tracker.list_runs(self._sweep.name):
            for use in self._sweep.datasets:
                former = run.tags.get(dataset_tag(use.context), use.digest)
                if former != use.digest:
                    raise ValueError(
                        f"MLflow has runs of a sweep '{self._sweep.name}' with other images for "
                        f"{use.context} (digest {former[:12]}, now {use.digest[:12]}); give the new one a "
                        "name of its own with --name"
                    )

    def record(self, trial: Trial, history: History, record: Record) -> None:
        """Logs one event of a trial."""
        self._require_current()
        try:
            self._record(trial, history, record)
        except TrackingError as error:
            self._fall_behind(error)

    def finish(self, trial: Trial, history: History, status: Status, reason: str | None = None) -> None:
        """Closes a trial's run: its pictures, its best checkpoint, its status."""
        self._require_current()
        try:
            self._finish(trial, history, status, reason)
        except TrackingError as error:
            self._fall_behind(error)

    def catch_up(self, trial: Trial, history: History, status: Status, reason: str | None) -> bool:
        """Tells MLflow all of an ended trial that it does not have; returns whether it has all now."""
        if self._told(history):
            return True
        for record in history.records():
            self.record(trial, history, record)
        self.finish(trial, history, status, reason)
        return self._told(history)

    def summarise(self, table: Sequence[Row], files: Mapping[str, str | bytes]) -> str | None:
        """Logs the sweep's table and its comparison; returns the id of that run, None if MLflow is away.

        Args:
            table: one row per variant.
            files: the comparison, by file name.
        """
        self._require_current()
        tags = {"sweep": self._sweep.name, "mlflow.note.content": self._sweep.question}
        rows = LoggedTable.from_csv(to_csv(table, self._sweep.metric))
        try:
            return self._tracker.log_summary(self._sweep.experiment_id, tags, files, rows)
        except TrackingError as error:
            log.warning("the summary is not in MLflow: %s", error)
            return None

    def _require_current(self) -> None:
        if self._attempt is not None:
            # A home that does not answer keeps nothing from MLflow: nobody can take the sweep over there.
            with contextlib.suppress(StorageError):
                self._attempt.require_current()

    def _record(self, trial: Trial, history: History, record: Record) -> None:
        if record.error is not None:
            return
        run = self._open(trial)
        if record.evaluation is None:
            run.log_epoch(record.epoch, record.metrics, _incident_tags(history))
        else:
            evaluation, maps = read_evaluation(history, record), read_maps(history, record)
            run.log_evaluation(evaluation, record.epoch, record.kind, maps)

    def _finish(self, trial: Trial, history: History, status: Status, reason: str | None) -> None:
        run, records = self._open(trial), history.records()
        there = existing(records)
        best = best_record(records, self._sweep.metric, self._sweep.mode, there)
        if best is not None:
            kept = {r.epoch: r.checkpoint for r in records if r.checkpoint in there}
            run.set_checkpoints(best.checkpoint, best.epoch, records[-1].checkpoint, kept)
        for record in final_scores(records):
            run.log_figures(read_evaluation(history, record), record.kind)
        run.finish(status, reason)
        if status != "FAILED":
            put_json(history.depot, TOLD, self._receipt(history))

    def _open(self, trial: Trial) -> TrialRun:
        if trial.key not in self._runs:
            config = trial.config
            tags = {
                "sweep": self._sweep.name,
                "variant": trial.variant,
                "reliability": config.loss.reliability,
                "similarity": config.loss.similarity,
                "init": config.init,
                "seed": str(config.seed),
                "role": "trial" if config.epochs else "baseline",
            }
            run = self._tracker.open_run(
                self._sweep.experiment_id, trial.key, trial.key, tags=tags, params=config.flat()
            )
            run.log_datasets(self._sweep.datasets)
            self._runs[trial.key] = run
        return self._runs[trial.key]

    def _fall_behind(self, error: TrackingError) -> None:
        if not self._away:
            log.warning("MLflow does not answer (%s); training goes on, MLflow will be told later", error)
        self._away = True

    def _told(self, history: History) -> bool:
        content = history.depot.read(TOLD)
        return content is not None and json.loads(content) == self._receipt(history)

    def _receipt(self, history: History) -> dict[str, Any]:
        """What stands beside a history that was told completely."""
        events = [r.name for r in history.records() if r.error is None]
        return {"tracking_uri": self._tracker.tracking_uri, "events": events}


def _incident_tags(history: History) -> dict[str, str]:
    """What befell the trial so far, as a tag of its run; none if nothing did."""
    text = "\n".join(incident.text for incident in incidents(history))
    return {TAG: text[-MAX_TAG_LENGTH:]} if text else {}


def stopped_early(epoch: int) -> str:
    """Why the run of a trial was killed."""
    return f"stopped early by its score after epoch {epoch}"


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
