"""TrialRun: what one trial writes into its MLflow run, each thing once however often it is told."""

from __future__ import annotations

import io
import json
import math
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT, MLFLOW_LOGGED_ARTIFACTS
from mlflow.utils.validation import MAX_DATASET_DIGEST_SIZE

from runner.logged_table import LoggedTable
from runner.mlflow_store import root_cause
from runner.score_tables import mma_table, pair_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from evaluation.evaluation import Evaluation
    from evaluation.maps import ImageMaps

BEST_CHECKPOINT = "r2d2.checkpoint.best"
BEST_EPOCH = "r2d2.checkpoint.best_epoch"
LAST_CHECKPOINT = "r2d2.checkpoint.last"
NON_FINITE = "r2d2.non_finite"
REASON = "r2d2.reason"
MAX_TAG_LENGTH = 5000
MATCH_PICTURES = 2

Status = Literal["FINISHED", "FAILED", "KILLED"]


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


class TrialRun:
    """An open MLflow run; obtained from `Tracker.open_run`, used by one thread at a time.

    What it was told before is remembered, across restarts of the sweep too, so that everything may be told
    again: figures are logged once; tables, pictures and tags replace the former ones. Every method that tells
    MLflow something raises TrackingError if MLflow does not take it.
    """

    def __init__(self, client: MlflowClient, run: Run) -> None:
        self._client = client
        self.run_id: str = run.info.run_id
        self._tags = dict(run.data.tags)
        self._steps: dict[str, set[int]] | None = self._read_steps(run)

    def log_epoch(
        self, step: int, metrics: Mapping[str, float], tags: Mapping[str, str] | None = None
    ) -> None:
        """Logs an epoch's figures in one request; a figure that MLflow has for this step already is left out.

        A value that is not finite is logged as NaN, and the tag `r2d2.non_finite` tells what it was:
        databases cannot store infinity, and MLflow would write 1.8e308 instead.

        Args:
            step: the epoch, from 1; 0 is the network before training.
            metrics: full names such as `train/loss_total`.
            tags: set in the same request.
        """
        steps = self._known_steps()
        fresh = {k: float(v) for k, v in metrics.items() if step not in steps.get(k, ())}
        now = int(time.time() * 1000)
        entities = [Metric(k, v if math.isfinite(v) else math.nan, now, step) for k, v in fresh.items()]
        # Whether a request that fails here was carried out there is unknown: read the steps again then.
        self._steps = None
        self._send(entities, dict(tags or {}) | self._non_finite_tag(step, fresh))
        for key in fresh:
            steps.setdefault(key, set()).add(step)
        self._steps = steps

    def log_evaluation(
        self, evaluation: Evaluation, step: int, benchmark_role: str, maps: Sequence[ImageMaps] = ()
    ) -> None:
        """Logs a score: metrics `<role>/<scalar>` at `step`, the MMA table, the table of pairs, a picture.

        The metrics come last: a step that has them is known to have the picture, which is drawn once.

        Args:
            evaluation: the score.
            step: the epoch.
            benchmark_role: what the score is for.
            maps: drawn into `pictures/<role>/epoch_<step>.png`; without any there is no picture.

        Raises:
            ValueError: if this run was scored on other images or by another protocol in the same role.
        """
        tags = self._same_tag(dataset_tag(benchmark_role), evaluation.benchmark_digest)
        tags |= self._same_tag(protocol_tag(benchmark_role), evaluation.protocol.name)
        tags |= self._same_tag(f"{protocol_tag(benchmark_role)}.digest", evaluation.protocol.digest)
        metrics = {f"{benchmark_role}/{key}": value for key, value in evaluation.scalars().items()}
        name = f"{benchmark_role}_epoch_{step:03d}.json"
        files: dict[str, str | bytes] = {
            f"mma/{name}": mma_table(evaluation).json(),
            f"pairs/{name}": pair_table(evaluation).json(),
        }
        if maps and step not in self._known_steps().get(f"{benchmark_role}/mma_3px", ()):
            picture = _epoch_picture(maps, step, benchmark_role, metrics)
            files[f"pictures/{benchmark_role}/epoch_{step:03d}.png"] = picture
        self.log_files(files)
        self.log_epoch(step, metrics, tags)

    def log_figures(self, evaluation: Evaluation, benchmark_role: str) -> None:
        """Logs the pictures of one epoch, the final or the best: MMA curves, and matches on two pairs.

        Its tables are logged once more under names without an epoch, so that MLflow's table view shows them
        side by side for several runs.
        """
        from evaluation.figures import match_pictures, mma_curves

        figures = {f"figures/mma_{benchmark_role}.png": mma_curves(evaluation.table())}
        for number, example in enumerate(evaluation.examples[:MATCH_PICTURES], start=1):
            figures[f"figures/matches_{benchmark_role}_{number}.png"] = match_pictures(example)
        self.log_files({name: png(figure) for name, figure in figures.items()})
        tables = {"mma": mma_table(evaluation), "pairs": pair_table(evaluation)}
        self.log_tables({f"{kind}/{benchmark_role}.json": table for kind, table in tables.items()})

    def log_datasets(self, datasets: Iterable[DatasetUse]) -> None:
        """Logs what was trained and scored on; the complete digest is the tag `r2d2.dataset.<context>`.

        Raises:
            ValueError: if this run used other images in the same context.
        """
        uses = tuple(datasets)
        self._send(
            tags={k: v for u in uses for k, v in self._same_tag(dataset_tag(u.context), u.digest).items()}
        )
        with as_tracking_error():
            self._client.log_inputs(self.run_id, [use.to_input() for use in uses])

    def set_checkpoints(
        self, best: str, best_epoch: int, last: str, epochs: Mapping[int, str] | None = None
    ) -> None:
        """Logs where the checkpoints are: the best and the last as tags, and a table of all.

        Args:
            best: URI of the best.
            best_epoch: its epoch.
            last: URI of the last.
            epochs: epoch -> URI of every checkpoint there is; None logs no table.
        """
        if epochs is not None:
            rows = tuple((epoch, uri, epoch == best_epoch) for epoch, uri in sorted(epochs.items()))
            self.log_files({"checkpoints.json": LoggedTable(("epoch", "checkpoint", "best"), rows).json()})
        self._send(tags={BEST_CHECKPOINT: best, BEST_EPOCH: str(best_epoch), LAST_CHECKPOINT: last})

    def log_tables(self, tables: Mapping[str, LoggedTable]) -> None:
        """Logs tables (file name -> table) and lists them in MLflow's table view."""
        self.log_files({name: table.json() for name, table in tables.items()})
        listed: list[dict[str, str]] = json.loads(self._tags.get(MLFLOW_LOGGED_ARTIFACTS, "[]"))
        entries = [{"path": name, "type": "table"} for name in tables]
        listed += [entry for entry in entries if entry not in listed]
        self._send(tags={MLFLOW_LOGGED_ARTIFACTS: json.dumps(listed)})

    def log_files(self, files: Mapping[str, str | bytes]) -> None:
        """Logs artifacts (file name -> contents), in place of former ones of the same name."""
        with tempfile.TemporaryDirectory() as folder:
            for name, content in files.items():
                path = Path(folder, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content.encode() if isinstance(content, str) else content)
            # The stores of files raise exceptions of their own: boto's, requests', the disk's.
            with as_tracking_error(Exception):
                self._client.log_artifacts(self.run_id, folder)

    def finish(self, status: Status, reason: str | None = None) -> None:
        """Ends the run as it ended; `reason` becomes the tag `r2d2.reason`."""
        if reason is not None:
            self._send(tags={REASON: reason[:MAX_TAG_LENGTH]})
        with as_tracking_error():
            self._client.set_terminated(self.run_id, status)

    def _send(self, metrics: Sequence[Metric] = (), tags: Mapping[str, str] | None = None) -> None:
        """One request with everything that MLflow does not have yet; none if there is nothing."""
        fresh = {k: v for k, v in (tags or {}).items() if self._tags.get(k) != v}
        if metrics or fresh:
            run_tags = [RunTag(k, v) for k, v in fresh.items()]
            with as_tracking_error():
                self._client.log_batch(self.run_id, metrics=metrics, tags=run_tags)
            self._tags |= fresh

    def _known_steps(self) -> dict[str, set[int]]:
        """The steps that MLflow has of each metric."""
        if self._steps is None:
            with as_tracking_error():
                self._steps = self._read_steps(self._client.get_run(self.run_id))
        return self._steps

    def _read_steps(self, run: Run) -> dict[str, set[int]]:
        history = self._client.get_metric_history
        with as_tracking_error():
            return {key: {m.step for m in history(self.run_id, key)} for key in run.data.metrics}

    def _non_finite_tag(self, step: int, metrics: Mapping[str, float]) -> dict[str, str]:
        words = [f"{k} is {v} at {step}" for k, v in metrics.items() if not math.isfinite(v)]
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


def _epoch_picture(
    maps: Sequence[ImageMaps], step: int, benchmark_role: str, metrics: Mapping[str, float]
) -> bytes:
    from evaluation.pictures import epoch_picture

    score = metrics[f"{benchmark_role}/mma_3px"]
    return epoch_picture(maps, f"epoch {step}, {benchmark_role}: MMA@3 {score:.3f}")


def png(figure: Figure) -> bytes:
    """The contents of a PNG file of the figure."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
