"""Opens the MLflow store, its experiments (one per sweep) and runs (one per trial).

One process uses it, the driver of a sweep. All calls go through MLflow's client object, because MLflow's
global "active run" allows only one trial at a time.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from mlflow.entities import Run, RunStatus, ViewType
from mlflow.exceptions import MlflowException
from mlflow.utils.validation import MAX_PARAM_VAL_LENGTH

from r2d2.source_code import SourceCode, source_code
from r2d2.storage.s3 import TIMEOUT
from r2d2.storage.store import Store
from r2d2.unknown import did_you_mean
from runner.settings import Settings
from runner.tracking.moved_home import PresentPlaces
from runner.tracking.note import DatasetUse
from runner.tracking.run import BEST_CHECKPOINT, KEY, LAST_CHECKPOINT, REASON, LoggedRun, TrialRun
from runner.tracking.store import (
    TrackingError,
    as_tracking_error,
    check_store,
    code_tags,
    environment,
    open_client,
    root_cause,
)
from runner.tracking.tables import VIEW_TAG

CODE, RESUMED_WITH = "r2d2.code_version", "r2d2.resumed_with"
SUMMARY = "summary"
# What differed from the commit, as `git apply` takes it.
DIFF = "uncommitted.diff"

_PAGE = 1000
# What MLflow answers for an id that it does not know, or that cannot be one.
_UNKNOWN = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")


class Tracker:
    """A Tracker is an open MLflow store.

    Args:
        tracking_uri: `sqlite:///FILE`, `http(s)://SERVER`, or another URI that MLflow takes.
        artifact_root: folder or URI for the files of new experiments; None leaves it to the server.
        sweeps: all sweeps of this home, whose checkpoints are found wherever it was moved; None: of no home.
        may_be_away: whether to accept a server that does not answer now.

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
        """Opens the store that the settings name. Otherwise as the class."""
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
        """Opens or creates an experiment and returns its id; sets its tags, `first` on a new one only.

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
        """Returns the experiments that sweeps made: name -> id, the newest first.

        Raises:
            TrackingError: if MLflow does not answer.
        """
        with as_tracking_error():
            found = self.client.search_experiments(order_by=["creation_time DESC"])
        return {e.name: e.experiment_id for e in found if VIEW_TAG in e.tags}

    @as_tracking_error()
    def open_run(
        self,
        experiment_id: str,
        key: str,
        name: str,
        tags: Mapping[str, str],
        params: Mapping[str, Any],
        datasets: Sequence[DatasetUse] = (),
        started: int | None = None,
        code: SourceCode | None = None,
    ) -> TrialRun:
        """Opens the run of `key` again, or creates it.

        A reopened run is RUNNING again and loses the reason of its former end. If the code differs from that
        which began the run, the tag `r2d2.resumed_with` names it. Parameters are sent with the first figures
        or tags. Those that are too long for MLflow end in an ellipsis; `config.json` holds all of them in
        full.

        Args:
            experiment_id: of the sweep.
            key: names the trial within its experiment, for ever.
            name: what MLflow's pages show.
            tags: set again when a run is reopened.
            params: the complete configuration with dotted keys.
            datasets: what the run is trained and scored on.
            started: milliseconds since 1970 at which it began; None: now.
            code: that began the run; None: the code that runs now.

        Raises:
            ValueError: if the run was begun with other parameters.
            TrackingError: if MLflow does not answer; so does every method below.
        """
        former = self.runs_by_key(experiment_id, key).get(key)
        code = code or source_code()
        first = {**tags, **code_tags(code), KEY: key}
        run = former or self.client.create_run(experiment_id, started, first, name)
        texts = {k: _shortened(str(v)) for k, v in params.items()}
        known = run.data.params
        changed = [f"{k} was {known[k]}, is {v}" for k, v in texts.items() if known.get(k, v) != v]
        if changed:
            raise ValueError(f"MLflow run '{run.info.run_name}' has other parameters: {'; '.join(changed)}")
        opened = TrialRun(self.client, run)
        if former is not None:
            self._reopen(opened, former, tags)
        if missing := {k: v for k, v in texts.items() if k not in known}:
            # The parameters come last: a run that has them is known to have the files and the data sets.
            files = {"config.json": params, "environment.json": environment()}
            texts_of = {name: json.dumps(value, indent=1) for name, value in files.items()}
            opened.log_files(texts_of | ({DIFF: code.diff} if code.diff else {}))
            if datasets:
                self.client.log_inputs(opened.run_id, [use.to_input() for use in datasets])
        opened.params = missing
        return opened

    def _reopen(self, opened: TrialRun, former: Run, tags: Mapping[str, str]) -> None:
        version = source_code().version
        opened.log((), {**tags, RESUMED_WITH: version} if version != opened.tags.get(CODE) else tags)
        if REASON in opened.tags:
            self.client.delete_tag(opened.run_id, REASON)
            del opened.tags[REASON]
        if former.info.status != RunStatus.to_string(RunStatus.RUNNING):
            self.client.update_run(opened.run_id, status=RunStatus.to_string(RunStatus.RUNNING))

    @as_tracking_error()
    def runs_by_key(self, experiment_id: str, key: str | None = None) -> dict[str, Run]:
        """Finds the runs of an experiment by their key; only the run of `key`, if one is given.

        If a key has a second run that is empty, that run is deleted: the answer to its creation came too
        late.
        """
        assert "'" not in (key or ""), f"the key {key} holds a quote"
        runs: dict[str, list[Run]] = {}
        for run in self._search(experiment_id, "" if key is None else f"tags.`{KEY}` = '{key}'"):
            if KEY in run.data.tags:
                runs.setdefault(run.data.tags[KEY], []).append(run)
        for same in runs.values():
            same.sort(key=lambda run: not run.data.params)
            for other in [run for run in same[1:] if not run.data.params]:
                self.client.delete_run(other.info.run_id)
        return {key: same[0] for key, same in runs.items()}

    @as_tracking_error()
    def list_runs(self, experiment: str) -> list[LoggedRun]:
        """Lists the runs of an experiment that this project opened, oldest first.

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
        """Finds a run by its id.

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
        """Returns every logged value of a metric: step -> value, by step."""
        history = self.client.get_metric_history(run_id, metric)
        return {m.step: m.value for m in sorted(history, key=lambda m: int(m.step))}

    def _logged(self, run: Run) -> LoggedRun:
        tags = dict(run.data.tags)
        if self._places is not None:
            checkpoints = tags.keys() & {BEST_CHECKPOINT, LAST_CHECKPOINT}
            tags |= {key: self._places.of(tags[key]) for key in checkpoints}
        return LoggedRun(
            run_id=run.info.run_id,
            experiment_id=run.info.experiment_id,
            key=tags.get(KEY, ""),
            name=run.info.run_name,
            status=run.info.status,
            tags=tags,
            params=dict(run.data.params),
            metrics=dict(run.data.metrics),
        )

    def _search(self, experiment_id: str, condition: str) -> list[Run]:
        runs: list[Run] = []
        token, order = None, ["attributes.start_time ASC"]
        while True:
            page = self.client.search_runs(
                [experiment_id], condition, ViewType.ACTIVE_ONLY, _PAGE, order, token
            )
            runs += page
            if not (token := page.token):
                return runs


def _shortened(text: str) -> str:
    return text if len(text) <= MAX_PARAM_VAL_LENGTH else f"{text[: MAX_PARAM_VAL_LENGTH - 1]}…"
