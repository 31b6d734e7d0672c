"""Tracking: the MLflow store, its experiments (one per sweep) and runs (one per trial).

Used by one process, the driver of a sweep. Everything goes through MLflow's client object: its global "active
run" would allow one trial at a time.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from urllib.parse import quote

from mlflow.entities import Run, RunStatus, RunTag, ViewType
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE
from mlflow.utils.validation import MAX_PARAM_VAL_LENGTH

from r2d2.storage.s3 import TIMEOUT
from r2d2.storage.store import Store
from r2d2.unknown import did_you_mean
from runner.settings import Settings
from runner.tracking import run_table
from runner.tracking.logged_table import LoggedTable
from runner.tracking.moved_home import PresentPlaces, present_tags
from runner.tracking.provenance import code_tags, environment
from runner.tracking.run import (
    BEST_CHECKPOINT,
    LAST_CHECKPOINT,
    REASON,
    DatasetUse,
    TrackingError,
    TrialRun,
    as_tracking_error,
    rounded,
)
from runner.tracking.store import check_store, open_client, root_cause

__all__ = ["DatasetUse", "LoggedRun", "Tracker", "TrackingError", "TrialRun"]

KEY = "r2d2.key"
ROLE = "role"
RESUMED_WITH = "r2d2.resumed_with"
SUMMARY = "summary"

_PAGE = 1000
# What MLflow answers for an id that it does not know, or that cannot be one.
_UNKNOWN = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")


@dataclass(frozen=True)
class LoggedRun:
    """What MLflow knows of one run.

    Attributes:
        key: the deterministic key it was opened with.
        status: RUNNING, FINISHED, FAILED or KILLED.
        params: the configuration's dotted keys, values as text.
        metrics: the last value of each.
        started: milliseconds since 1970.
    """

    run_id: str
    experiment_id: str
    key: str
    name: str
    status: str
    tags: Mapping[str, str]
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    started: int

    @property
    def role(self) -> str | None:
        """What the run stands for: `trial`, `baseline` or `summary`."""
        return self.tags.get(ROLE)


class Tracker:
    """The MLflow store.

    Args:
        tracking_uri: `sqlite:///FILE`, `http(s)://SERVER`, or another URI that MLflow takes.
        artifact_root: folder or URI for the files of new experiments; None leaves it to the server.
        sweeps: all sweeps of this home, whose checkpoints are found wherever it was moved; None: of no home.
        may_be_away: whether a server that does not answer is one to be told later.

    Raises:
        ValueError: if the store does not answer (at once, not after minutes of retries) or cannot be opened.
    """

    def __init__(
        self,
        tracking_uri: str,
        artifact_root: str | None = None,
        sweeps: Store | None = None,
        *,
        may_be_away: bool = False,
    ) -> None:
        self.tracking_uri = tracking_uri
        self.artifact_root = artifact_root
        self.client = open_client(tracking_uri, artifact_root, may_be_away=may_be_away)
        self.s3_timeout = TIMEOUT if sweeps is None else sweeps.timeout
        self._places = None if sweeps is None else PresentPlaces(sweeps)

    @classmethod
    def of(cls, settings: Settings, *, may_be_away: bool = False) -> Tracker:
        """The store that the settings name. Otherwise as the class."""
        uri, root = settings.tracking_uri, settings.artifact_root
        return cls(uri, root, settings.sweeps, may_be_away=may_be_away)

    def check(self) -> None:
        """Asks a server whether it is there, within seconds; other stores are not asked.

        Raises:
            TrackingError: if it does not answer, or refuses.
        """
        try:
            check_store(self.tracking_uri)
        except ValueError as error:
            raise TrackingError(str(error)) from error

    @as_tracking_error()
    def open_experiment(
        self, name: str, tags: Mapping[str, str] | None = None, first: Mapping[str, str] | None = None
    ) -> str:
        """The id of the experiment `name`, created if it is new; its tags are set, `first` on a new one only.

        Raises:
            ValueError: if an experiment of that name lies in MLflow's bin.
        """
        experiment = self.client.get_experiment_by_name(name)
        if experiment is None:
            root = self.artifact_root
            location = f"{root.rstrip('/')}/{quote(name, safe='')}" if root is not None else None
            try:
                return str(self.client.create_experiment(name, location, {**(tags or {}), **(first or {})}))
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
                # Another driver was faster.
                return self.open_experiment(name, tags, first)
        if experiment.lifecycle_stage != "active":
            raise ValueError(
                f"the MLflow experiment '{name}' was deleted; restore it, or remove it with `mlflow gc`"
            )
        for key, value in (tags or {}).items():
            if experiment.tags.get(key) != value:
                self.client.set_experiment_tag(experiment.experiment_id, key, value)
        return str(experiment.experiment_id)

    def experiments(self) -> dict[str, str]:
        """The experiments that sweeps made: name -> id, the newest first.

        Raises:
            TrackingError: if MLflow does not answer.
        """
        with as_tracking_error():
            found = self.client.search_experiments(order_by=["creation_time DESC"])
        return {e.name: e.experiment_id for e in found if run_table.TAG in e.tags}

    @as_tracking_error()
    def open_run(
        self,
        experiment_id: str,
        key: str,
        name: str,
        tags: Mapping[str, str],
        params: Mapping[str, Any],
        *,
        known: dict[str, Run] | None = None,
        started: int | None = None,
    ) -> TrialRun:
        """The run of `key`, reopened if there is one, else created.

        A reopened run is RUNNING again and loses the reason of its former end; code that differs from what
        began it is noted in the tag `r2d2.resumed_with`. Parameters are sent with the first figures or tags;
        those longer than MLflow allows end in an ellipsis; `config.json` holds them all, whole.

        Args:
            experiment_id: of the sweep.
            key: names the trial within its experiment, for ever.
            name: what MLflow's pages show.
            tags: set again when a run is reopened.
            params: the complete configuration with dotted keys.
            known: the experiment's runs by key, as `runs_by_key` found them, to which a new one is added;
                None: MLflow is asked.
            started: milliseconds since 1970 at which it began; None: now.

        Raises:
            ValueError: if the run was begun with other parameters.
            TrackingError: if MLflow does not answer; so does every method below.
        """
        run = self._find(experiment_id, key) if known is None else known.get(key)
        texts = {k: _shortened(str(v)) for k, v in params.items()}
        if run is None:
            first = {**tags, **code_tags(), KEY: key}
            run = self.client.create_run(experiment_id, started, first, name)
            if known is not None:
                known[key] = run
        else:
            run_id = run.info.run_id
            self._reopen(self.client.get_run(run_id) if known is not None else run, tags, texts)
            run = self.client.get_run(run_id)
        missing = {k: v for k, v in texts.items() if k not in run.data.params}
        opened = TrialRun(self.client, run, missing)
        if missing:
            # The parameters come last: a run that has them is known to have the files.
            opened.log_files({"config.json": _json(params), "environment.json": _json(environment())})
        return opened

    @as_tracking_error()
    def runs_by_key(self, experiment_id: str) -> dict[str, Run]:
        """The runs of an experiment by their key.

        A second one of a key that holds nothing is deleted: the answer to its creation was lost.
        """
        runs: dict[str, list[Run]] = {}
        for run in self._search(experiment_id, ""):
            if KEY in run.data.tags:
                runs.setdefault(run.data.tags[KEY], []).append(run)
        for same in runs.values():
            same.sort(key=lambda run: not run.data.params)
            for other in [run for run in same[1:] if not run.data.params]:
                self.client.delete_run(other.info.run_id)
        return {key: same[0] for key, same in runs.items()}

    @as_tracking_error()
    def list_runs(self, experiment: str) -> list[LoggedRun]:
        """The runs of an experiment that this project opened, oldest first.

        Raises:
            ValueError: if there is no such experiment; names those there are.
        """
        found = self.client.get_experiment_by_name(experiment)
        if found is None:
            known = sorted(e.name for e in self.client.search_experiments() if e.name != "Default")
            raise ValueError(
                f"MLflow knows no sweep '{experiment}'; known: {', '.join(known) or 'none'}"
                f"{did_you_mean(experiment, known)}"
            )
        return [self._logged(run) for run in self._search(found.experiment_id, "") if KEY in run.data.tags]

    def get_run(self, run_id: str) -> LoggedRun:
        """One run.

        Raises:
            ValueError: if there is none of that id.
        """
        try:
            return self._logged(self.client.get_run(run_id))
        except MlflowException as error:
            if error.error_code not in _UNKNOWN:
                raise TrackingError(root_cause(error)) from error
            raise ValueError(f"MLflow has no run '{run_id}'") from error

    @as_tracking_error()
    def metric_history(self, run_id: str, metric: str) -> dict[int, float]:
        """Every logged value of a metric: step -> value, by step."""
        history = self.client.get_metric_history(run_id, metric)
        return {m.step: m.value for m in sorted(history, key=lambda m: int(m.step))}

    @as_tracking_error()
    def log_summary(
        self,
        experiment_id: str,
        tags: Mapping[str, str],
        files: Mapping[str, str | bytes],
        table: LoggedTable,
        figures: Mapping[str, float],
    ) -> str:
        """Logs what a sweep came to, in place of a former summary, and returns the id of its run.

        The experiment is described as the run is.

        Args:
            experiment_id: of the sweep.
            tags: of the summary's run, e.g. `sweep`.
            files: the comparison in several forms, by file name.
            table: one line per variant, for MLflow's table view; it is `variants.json`.
            figures: that order it among the trials.
        """
        own = {ROLE: SUMMARY, "variant": SUMMARY}
        run = self.open_run(experiment_id, SUMMARY, SUMMARY, {**tags, **own}, {})
        for key, value in figures.items():
            # In place of the former one: a later time counts among figures of one step.
            self.client.log_metric(run.run_id, key, rounded(value))
        if MLFLOW_RUN_NOTE in tags:
            self.client.set_experiment_tag(experiment_id, MLFLOW_RUN_NOTE, tags[MLFLOW_RUN_NOTE])
        run.log_files(files)
        run.log_tables({"variants.json": table})
        run.finish("FINISHED")
        return run.run_id

    def _logged(self, run: Run) -> LoggedRun:
        logged = _logged(run)
        if self._places is None:
            return logged
        names = (BEST_CHECKPOINT, LAST_CHECKPOINT)
        return replace(logged, tags=present_tags(logged.tags, names, self._places))

    def _find(self, experiment_id: str, key: str) -> Run | None:
        assert "'" not in key, f"the key {key} holds a quote"
        runs = self._search(experiment_id, f"tags.`{KEY}` = '{key}'")
        return runs[0] if runs else None

    def _search(self, experiment_id: str, condition: str) -> list[Run]:
        order = ["attributes.start_time ASC"]
        search = partial(
            self.client.search_runs, [experiment_id], condition, ViewType.ACTIVE_ONLY, _PAGE, order
        )
        page = search()
        runs = list(page)
        while page.token:
            page = search(page.token)
            runs += page
        return runs

    def _reopen(self, run: Run, tags: Mapping[str, str], texts: Mapping[str, str]) -> None:
        known = run.data.params
        changed = [f"{k} was {known[k]}, is {v}" for k, v in texts.items() if known.get(k, v) != v]
        if changed:
            raise ValueError(f"MLflow run '{run.info.run_name}' has other parameters: {'; '.join(changed)}")
        run_id, version = run.info.run_id, code_tags()["r2d2.code_version"]
        fresh = dict(tags)
        if version != run.data.tags.get("r2d2.code_version"):
            fresh[RESUMED_WITH] = version
        self.client.log_batch(run_id, tags=[RunTag(k, v) for k, v in fresh.items()])
        if REASON in run.data.tags:
            self.client.delete_tag(run_id, REASON)
        if run.info.status != RunStatus.to_string(RunStatus.RUNNING):
            self.client.update_run(run_id, status=RunStatus.to_string(RunStatus.RUNNING))


def _logged(run: Run) -> LoggedRun:
    return LoggedRun(
        run_id=run.info.run_id,
        experiment_id=run.info.experiment_id,
        key=run.data.tags.get(KEY, ""),
        name=run.info.run_name,
        status=run.info.status,
        tags=dict(run.data.tags),
        params=dict(run.data.params),
        metrics=dict(run.data.metrics),
        started=run.info.start_time,
    )


def _shortened(text: str) -> str:
    return text if len(text) <= MAX_PARAM_VAL_LENGTH else f"{text[: MAX_PARAM_VAL_LENGTH - 1]}…"


def _json(values: Mapping[str, Any]) -> str:
    return json.dumps(values, indent=1)
