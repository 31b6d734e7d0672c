"""Defines TrialRun, an open run in MLflow, which holds each figure once; and LoggedRun, one that is read."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.utils.mlflow_tags import MLFLOW_LOGGED_ARTIFACTS
from mlflow.utils.validation import MAX_ENTITIES_PER_BATCH

from r2d2.storage.scratch import scratch_folder
from runner.record.history import Record
from runner.record.sweep import Status
from runner.tracking.store import as_tracking_error

if TYPE_CHECKING:
    from evaluation.evaluation import Evaluation

KEY, ROLE = "r2d2.key", "role"
BEST_CHECKPOINT = "r2d2.checkpoint.best"
BEST_EPOCH = "r2d2.checkpoint.best_epoch"
LAST_CHECKPOINT = "r2d2.checkpoint.last"
NON_FINITE = "r2d2.non_finite"
REASON = "r2d2.reason"
MAX_TAG_LENGTH = 5000


@dataclass(frozen=True)
class LoggedRun:
    """A LoggedRun is what MLflow knows of one run.

    Attributes:
        key: the deterministic key it was opened with.
        status: RUNNING, FINISHED, FAILED or KILLED.
        params: the configuration's dotted keys, values as text.
        metrics: the last value of each.
    """

    run_id: str
    experiment_id: str
    key: str
    name: str
    status: str
    tags: Mapping[str, str]
    params: Mapping[str, str]
    metrics: Mapping[str, float]

    @property
    def role(self) -> str | None:
        """Returns the kind of the run: `trial`, `baseline` or `summary`."""
        return self.tags.get(ROLE)


class TrialRun:
    """A TrialRun is an open MLflow run, made by `Tracker.open_run`; one thread at a time uses it.

    Every method that asks or writes raises TrackingError if MLflow does not answer. It is then unknown
    whether MLflow carried the request out: open the run again, and log what it does not have.

    Attributes:
        tags: as MLflow has them.
        params: sent with the next figures or tags.
    """

    def __init__(self, client: MlflowClient, run: Run) -> None:
        self._client = client
        self.run_id: str = run.info.run_id
        self.tags = dict(run.data.tags)
        self.params: dict[str, str] = {}
        # The steps that MLflow has of a metric; None: it has some, and was not asked which.
        self._steps: dict[str, set[int] | None] = dict.fromkeys(run.data.metrics)

    def has(self, event: Record) -> bool:
        """Says whether MLflow has an event: it takes all figures of one, or none."""
        return not event.metrics or event.epoch in self._steps_of(event)

    def log(self, events: Sequence[Record], tags: Mapping[str, str] | None = None) -> None:
        """Logs figures and tags, in one request or as few as MLflow's limit of 1000 allows.

        A value that is not finite is logged as NaN, and the tag `r2d2.non_finite` says what it was: databases
        cannot store infinity, and MLflow would write 1.8e308 instead.
        """
        changed = {**(tags or {}), **self._non_finite_tag(events)}
        changed = {key: value for key, value in changed.items() if self.tags.get(key) != value}
        if not (events or changed or self.params):
            return
        *first, last = _batches(events, MAX_ENTITIES_PER_BATCH - len(self.params) - len(changed))
        for batch in first:
            self._send(batch, {})
        self._send(last, changed)
        for event in events:
            if event.metrics:
                self._steps_of(event).add(event.epoch)

    def score_tags(self, evaluation: Evaluation, benchmark_role: str) -> dict[str, str]:
        """Returns the tags that say on which images, and by which protocol, figures were made.

        Raises:
            ValueError: if this run was scored on other images or by another protocol in the same role.
        """
        tags = {
            dataset_tag(benchmark_role): evaluation.benchmark_digest,
            protocol_tag(benchmark_role): evaluation.protocol.name,
            f"{protocol_tag(benchmark_role)}.digest": evaluation.protocol.digest,
        }
        for key, value in tags.items():
            if (former := self.tags.get(key, value)) != value:
                raise ValueError(
                    f"{key} of MLflow run {self.run_id} was {former} and is now {value}; "
                    "figures that cannot be compared do not belong in one run"
                )
        return tags

    def table_tag(self, names: Iterable[str]) -> dict[str, str]:
        """Returns the tag that adds files to those that MLflow's table view lists."""
        listed: list[dict[str, str]] = json.loads(self.tags.get(MLFLOW_LOGGED_ARTIFACTS, "[]"))
        entries = [{"path": name, "type": "table"} for name in names]
        listed += [entry for entry in entries if entry not in listed]
        return {MLFLOW_LOGGED_ARTIFACTS: json.dumps(listed)} if listed else {}

    def log_files(self, files: Mapping[str, str | bytes]) -> None:
        """Logs artifacts (file name -> contents), in place of former ones of the same name."""
        if not files:
            return
        with scratch_folder() as folder:
            for name, content in files.items():
                path = folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content.encode() if isinstance(content, str) else content)
            # The stores of files raise exceptions of their own: boto's, requests', the disk's.
            with as_tracking_error(Exception):
                self._client.log_artifacts(self.run_id, str(folder))

    def finish(self, status: Status, reason: str | None = None, time: int | None = None) -> None:
        """Ends the run with the trial's status; `reason` becomes the tag `r2d2.reason`.

        Args:
            status: as MLflow knows it.
            reason: of that status.
            time: milliseconds since 1970 at which it ended; None: now.
        """
        self.log((), {} if reason is None else {REASON: reason[:MAX_TAG_LENGTH]})
        with as_tracking_error():
            self._client.set_terminated(self.run_id, status, time)

    def _send(self, metrics: Sequence[Metric], tags: Mapping[str, str]) -> None:
        params = [Param(key, value) for key, value in self.params.items()]
        run_tags = [RunTag(key, value) for key, value in tags.items()]
        with as_tracking_error():
            self._client.log_batch(self.run_id, metrics=metrics, params=params, tags=run_tags)
        self.params = {}
        self.tags |= tags

    def _steps_of(self, event: Record) -> set[int]:
        """Returns the steps of events of this kind that MLflow has; asked once: nobody else writes this run.

        One metric stands for all of them: one that the run has, since another version of this program may add
        some.
        """
        key = next((key for key in event.metrics if key in self._steps), next(iter(event.metrics)))
        steps = self._steps.setdefault(key, set())
        if steps is None:
            with as_tracking_error():
                steps = {metric.step for metric in self._client.get_metric_history(self.run_id, key)}
            self._steps[key] = steps
        return steps

    def _non_finite_tag(self, events: Iterable[Record]) -> dict[str, str]:
        figures = [(event.epoch, key, value) for event in events for key, value in event.metrics.items()]
        words = [f"{key} is {value} at {step}" for step, key, value in figures if not math.isfinite(value)]
        former = [self.tags[NON_FINITE]] if NON_FINITE in self.tags else []
        return {NON_FINITE: "; ".join(former + words)[:MAX_TAG_LENGTH]} if words else {}


def _batches(events: Iterable[Record], room: int) -> Iterator[list[Metric]]:
    """Splits the figures into MLflow's batches of at most `room`; those of one event stay together."""
    now, batch = int(time.time() * 1000), list[Metric]()
    for event in events:
        when = now if event.time is None else event.time
        metrics = [Metric(key, rounded(value), when, event.epoch) for key, value in event.metrics.items()]
        if batch and len(batch) + len(metrics) > room:
            yield batch
            batch = []
        batch += metrics
    yield batch


def dataset_tag(context: str) -> str:
    """Names the run tag that holds the digest of the images used as `context`."""
    return f"r2d2.dataset.{context}"


def protocol_tag(benchmark_role: str) -> str:
    """Names the run tag that holds the name of the protocol of a benchmark's figures."""
    return f"r2d2.protocol.{benchmark_role}"


def checkpoint_tags(best: str, best_epoch: int, last: str) -> dict[str, str]:
    """Returns the tags that name a trial's checkpoints."""
    return {BEST_CHECKPOINT: best, BEST_EPOCH: str(best_epoch), LAST_CHECKPOINT: last}


def rounded(value: float) -> float:
    """Rounds a figure to four digits; a whole number keeps all of them, infinity becomes NaN.

    No figure of a benchmark or a training is more precise; the histories have all digits.
    """
    if not math.isfinite(value):
        return math.nan
    return value if value == round(value) else float(f"{value:.4g}")
