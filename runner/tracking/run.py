"""TrialRun: what one trial writes into its MLflow run, each thing once however often it is told."""

from __future__ import annotations

import io
import json
import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT, MLFLOW_LOGGED_ARTIFACTS
from mlflow.utils.validation import MAX_DATASET_DIGEST_SIZE, MAX_ENTITIES_PER_BATCH

from r2d2.scratch import scratch_folder
from runner.record.sweep import Status
from runner.tracking.logged_table import LoggedTable
from runner.tracking.score_tables import mma_table, pair_table
from runner.tracking.store import root_cause

if TYPE_CHECKING:
    from PIL.Image import Image

    from evaluation.evaluation import Evaluation
    from evaluation.pictures.maps import ImageMaps

BEST_CHECKPOINT = "r2d2.checkpoint.best"
BEST_EPOCH = "r2d2.checkpoint.best_epoch"
LAST_CHECKPOINT = "r2d2.checkpoint.last"
NON_FINITE = "r2d2.non_finite"
REASON = "r2d2.reason"
MAX_TAG_LENGTH = 5000
MATCH_PICTURES = 2


@dataclass(frozen=True)
class DatasetUse:
    """A set of images and what the run used it for.

    Attributes:
        name: e.g. `samples` or `hpatches`.
        digest: sha256 of its contents.
        source: where it was read from, a path or URI.
        context: `training`, or the role of a benchmark such as `validation` or `hpatches`.
    """

    name: str
    digest: str
    source: str
    context: str

    def to_input(self) -> DatasetInput:
        """The same as MLflow's entity, whose digest has room for only part of a sha256."""
        dataset = Dataset(
            self.name,
            self.digest[:MAX_DATASET_DIGEST_SIZE],
            source_type="local",
            source=json.dumps({"uri": self.source}),
            profile=json.dumps({"sha256": self.digest}),
        )
        return DatasetInput(dataset, [InputTag(MLFLOW_DATASET_CONTEXT, self.context)])


class TrackingError(RuntimeError):
    """MLflow did not take what it was told; it may be told again later."""


@contextmanager
def as_tracking_error(*errors: type[Exception]) -> Iterator[None]:
    """Turns MLflow's exceptions, and `errors`, into a TrackingError with the root cause."""
    kinds: tuple[type[Exception], ...] = (MlflowException, *errors)
    try:
        yield
    except kinds as error:
        raise TrackingError(root_cause(error)) from error


@dataclass(frozen=True)
class Figures:
    """The figures of one event.

    Attributes:
        step: the epoch, from 1; 0 is the network before training.
        metrics: full names such as `train/loss_total`.
        time: milliseconds since 1970 at which it happened; None: now.
    """

    step: int
    metrics: Mapping[str, float]
    time: int | None = None


class TrialRun:
    """An open MLflow run; obtained from `Tracker.open_run`, used by one thread at a time.

    What it was told before is remembered, across restarts of the sweep too, so that everything may be told
    again: figures are logged once; tables, pictures and tags replace the former ones. Parameters travel with
    the first figures or tags. Every method that tells MLflow something raises TrackingError if MLflow does
    not take it.
    """

    def __init__(self, client: MlflowClient, run: Run, params: Mapping[str, str] | None = None) -> None:
        self._client = client
        self.run_id: str = run.info.run_id
        self._tags = dict(run.data.tags)
        self._params = dict(params or {})
        self._has_datasets = run.inputs is not None and bool(run.inputs.dataset_inputs)
        # The metrics that MLflow has, None if unknown; and their steps, of those that were asked for.
        self._logged: set[str] | None = set(run.data.metrics)
        self._steps: dict[str, set[int]] = {}

    def log_figures_of(self, events: Sequence[Figures], tags: Mapping[str, str] | None = None) -> None:
        """Logs the figures of events, with tags, in one request, or as few as MLflow's limit of 1000 allows.

        A figure that MLflow has for its step already is left out. A value that is not finite is logged as
        NaN, and the tag `r2d2.non_finite` tells what it was: databases cannot store infinity, and MLflow
        would write 1.8e308 instead.
        """
        now = int(time.time() * 1000)
        fresh = [
            Metric(key, float(value), now if event.time is None else event.time, event.step)
            for event in events
            for key, value in event.metrics.items()
            if event.step not in self._steps_of(key)
        ]
        tags = {**(tags or {}), **self._non_finite_tag(fresh)}
        size = MAX_ENTITIES_PER_BATCH - len(self._params) - len(tags)
        pieces = [fresh[i : i + size] for i in range(0, len(fresh), size)] or [[]]
        for piece in pieces:
            self._send(piece, tags if piece is pieces[-1] else {})

    def score_tags(self, evaluation: Evaluation, benchmark_role: str) -> dict[str, str]:
        """The tags that say on which images, and by which protocol, figures were made.

        Raises:
            ValueError: if this run was scored on other images or by another protocol in the same role.
        """
        tags = self._same_tag(dataset_tag(benchmark_role), evaluation.benchmark_digest)
        tags |= self._same_tag(protocol_tag(benchmark_role), evaluation.protocol.name)
        return tags | self._same_tag(f"{protocol_tag(benchmark_role)}.digest", evaluation.protocol.digest)

    def score_files(
        self, evaluation: Evaluation, step: int, benchmark_role: str, maps: Sequence[ImageMaps] = ()
    ) -> dict[str, str | bytes]:
        """The tables and the picture of a score; the picture only if MLflow does not have the score yet."""
        name = f"{benchmark_role}_epoch_{step:03d}.json"
        files: dict[str, str | bytes] = {
            f"mma/{name}": mma_table(evaluation).json(),
            f"pairs/{name}": pair_table(evaluation).json(),
        }
        if maps and step not in self._steps_of(f"{benchmark_role}/mma_3px"):
            metrics = _score_metrics(evaluation, benchmark_role)
            picture = _epoch_picture(maps, step, benchmark_role, metrics)
            files[f"pictures/{benchmark_role}/epoch_{step:03d}.png"] = picture
        return files

    def log_datasets(self, datasets: Iterable[DatasetUse]) -> None:
        """Logs what was trained and scored on; the complete digest is the tag `r2d2.dataset.<context>`.

        Raises:
            ValueError: if this run used other images in the same context.
        """
        uses = tuple(datasets)
        tags = self.dataset_tags(uses)
        if not self._has_datasets:
            with as_tracking_error():
                self._client.log_inputs(self.run_id, [use.to_input() for use in uses])
            self._has_datasets = True
        if any(self._tags.get(key) != value for key, value in tags.items()):
            self._send(tags=tags)

    def dataset_tags(self, datasets: Iterable[DatasetUse]) -> dict[str, str]:
        """The tags of what a run was trained and scored on.

        Raises:
            ValueError: if this run used other images in the same context.
        """
        return {k: v for u in datasets for k, v in self._same_tag(dataset_tag(u.context), u.digest).items()}

    def log_tables(self, tables: Mapping[str, LoggedTable]) -> None:
        """Logs tables (file name -> table) and lists them in MLflow's table view."""
        self.log_files({name: table.json() for name, table in tables.items()})
        self._send(tags=self.table_tag(tables))

    def table_tag(self, names: Iterable[str]) -> dict[str, str]:
        """The tag that lists tables in MLflow's table view."""
        listed: list[dict[str, str]] = json.loads(self._tags.get(MLFLOW_LOGGED_ARTIFACTS, "[]"))
        entries = [{"path": name, "type": "table"} for name in names]
        listed += [entry for entry in entries if entry not in listed]
        return {MLFLOW_LOGGED_ARTIFACTS: json.dumps(listed)}

    def log_files(self, files: Mapping[str, str | bytes]) -> None:
        """Logs artifacts (file name -> contents), in place of former ones of the same name."""
        with scratch_folder() as folder:
            for name, content in files.items():
                path = folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content.encode() if isinstance(content, str) else content)
            # The stores of files raise exceptions of their own: boto's, requests', the disk's.
            with as_tracking_error(Exception):
                self._client.log_artifacts(self.run_id, str(folder))

    def finish(self, status: Status, reason: str | None = None, time: int | None = None) -> None:
        """Ends the run as it ended; `reason` becomes the tag `r2d2.reason`.

        Args:
            status: as MLflow knows it.
            reason: of that status.
            time: milliseconds since 1970 at which it ended; None: now.
        """
        self._send(tags=self.reason_tag(reason))
        with as_tracking_error():
            self._client.set_terminated(self.run_id, status, time)

    def reason_tag(self, reason: str | None) -> dict[str, str]:
        """The tag that says why a run ended as it did; none without a reason."""
        return {} if reason is None else {REASON: reason[:MAX_TAG_LENGTH]}

    def has(self, event: Figures) -> bool:
        """Whether MLflow has all figures of an event."""
        return all(event.step in self._steps_of(key) for key in event.metrics)

    def _send(self, metrics: Sequence[Metric] = (), tags: Mapping[str, str] | None = None) -> None:
        """One request with everything that MLflow does not have yet; none if there is nothing."""
        fresh = {k: v for k, v in (tags or {}).items() if self._tags.get(k) != v}
        if not (metrics or fresh or self._params):
            return
        finite = [_as_shown(m) for m in metrics]
        params = [Param(k, v) for k, v in self._params.items()]
        run_tags = [RunTag(k, v) for k, v in fresh.items()]
        known, self._logged = self._logged_metrics() if metrics else self._logged, None
        # Whether a request that fails here was carried out there is unknown: ask for the steps again then.
        steps, self._steps = self._steps, {}
        with as_tracking_error():
            self._client.log_batch(self.run_id, metrics=finite, params=params, tags=run_tags)
        self._logged, self._steps = known, steps
        self._params = {}
        self._tags |= fresh
        for metric in metrics:
            assert self._logged is not None
            if metric.key not in self._logged:
                # Nobody else writes into this run, so its steps are those of this request.
                self._logged.add(metric.key)
                self._steps[metric.key] = set()
            self._steps[metric.key].add(metric.step)

    def _logged_metrics(self) -> set[str]:
        """The metrics that MLflow has."""
        if self._logged is None:
            with as_tracking_error():
                self._logged = set(self._client.get_run(self.run_id).data.metrics)
        return self._logged

    def _steps_of(self, key: str) -> set[int]:
        """The steps that MLflow has of a metric."""
        if key not in self._logged_metrics():
            return set()
        if key not in self._steps:
            with as_tracking_error():
                history = self._client.get_metric_history(self.run_id, key)
            self._steps[key] = {m.step for m in history}
        return self._steps[key]

    def _non_finite_tag(self, metrics: Iterable[Metric]) -> dict[str, str]:
        words = [f"{m.key} is {m.value} at {m.step}" for m in metrics if not math.isfinite(m.value)]
        if not words:
            return {}
        former = self._tags.get(NON_FINITE)
        return {NON_FINITE: "; ".join([former, *words] if former else words)[:MAX_TAG_LENGTH]}

    def _same_tag(self, key: str, value: str) -> dict[str, str]:
        former = self._tags.get(key, value)
        if former != value:
            raise ValueError(
                f"{key} of MLflow run {self.run_id} was {former} and is now {value}; "
                "figures that cannot be compared do not belong in one run"
            )
        return {key: value}


def dataset_tag(context: str) -> str:
    """The run tag that holds the digest of the images used as `context`."""
    return f"r2d2.dataset.{context}"


def protocol_tag(benchmark_role: str) -> str:
    """The run tag that holds the name of the protocol of a benchmark's figures."""
    return f"r2d2.protocol.{benchmark_role}"


def checkpoint_tags(best: str, best_epoch: int, last: str) -> dict[str, str]:
    """The tags that name a trial's checkpoints."""
    return {BEST_CHECKPOINT: best, BEST_EPOCH: str(best_epoch), LAST_CHECKPOINT: last}


def checkpoint_file(best_epoch: int, epochs: Mapping[int, str]) -> dict[str, str | bytes]:
    """The table of all checkpoints (epoch -> URI)."""
    rows = tuple((epoch, uri, epoch == best_epoch) for epoch, uri in sorted(epochs.items()))
    return {"checkpoints.json": LoggedTable(("epoch", "checkpoint", "best"), rows).json()}


def final_files(
    evaluation: Evaluation, benchmark_role: str
) -> tuple[dict[str, str | bytes], dict[str, LoggedTable]]:
    """The pictures of one epoch, the final or the best (MMA curves, matches on two pairs), and its tables.

    The tables have names without an epoch, so that MLflow's table view shows them side by side for several
    runs.
    """
    from evaluation.pictures.matches import match_picture
    from evaluation.report.curves import mma_curves

    files: dict[str, str | bytes] = {f"figures/mma_{benchmark_role}.svg": mma_curves(evaluation.table())}
    for number, example in enumerate(evaluation.examples[:MATCH_PICTURES], start=1):
        files[f"figures/matches_{benchmark_role}_{number}.png"] = png(match_picture(example))
    tables = {"mma": mma_table(evaluation), "pairs": pair_table(evaluation)}
    return files, {f"{kind}/{benchmark_role}.json": table for kind, table in tables.items()}


def _score_metrics(evaluation: Evaluation, benchmark_role: str) -> dict[str, float]:
    return {f"{benchmark_role}/{key}": value for key, value in evaluation.scalars().items()}


def _as_shown(metric: Metric) -> Metric:
    return Metric(metric.key, rounded(metric.value), metric.timestamp, metric.step)


def rounded(value: float) -> float:
    """A figure with four digits, all of them if it is a whole number; NaN if it is not finite.

    No figure of a benchmark or a training is known better; the histories have all digits.
    """
    if not math.isfinite(value):
        return math.nan
    return value if value == round(value) else float(f"{value:.4g}")


def _epoch_picture(
    maps: Sequence[ImageMaps], step: int, benchmark_role: str, metrics: Mapping[str, float]
) -> bytes:
    from evaluation.pictures.network import epoch_picture

    score = metrics[f"{benchmark_role}/mma_3px"]
    return epoch_picture(maps, f"epoch {step}, {benchmark_role}: MMA@3 {score:.3f}")


def png(picture: Image) -> bytes:
    """The contents of a PNG file of a picture."""
    buffer = io.BytesIO()
    picture.save(buffer, format="png")
    return buffer.getvalue()
