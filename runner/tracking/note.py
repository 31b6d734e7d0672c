"""Keeps what MLflow names of a sweep beside its trials, and the stores that have answered."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from functools import partial

from mlflow.entities import Dataset, DatasetInput, InputTag
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT
from mlflow.utils.validation import MAX_DATASET_DIGEST_SIZE

from r2d2.formats.stored_json import typed
from r2d2.storage.store import Store
from runner.record.definition import SweepDefinition
from runner.record.history import put_json, read_value
from runner.record.layout import MLFLOW_NOTE


@dataclass(frozen=True)
class DatasetUse:
    """A DatasetUse is a set of images and what the run used it for.

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
        """Converts it to MLflow's entity, whose digest has room for only part of a sha256."""
        dataset = Dataset(
            self.name,
            self.digest[:MAX_DATASET_DIGEST_SIZE],
            source_type="local",
            source=json.dumps({"uri": self.source}),
            profile=json.dumps({"sha256": self.digest}),
        )
        return DatasetInput(dataset, [InputTag(MLFLOW_DATASET_CONTEXT, self.context)])


@dataclass(frozen=True)
class TrackingNote:
    """A TrackingNote holds what a sweep's folder keeps for MLflow beside its trials.

    Attributes:
        datasets: what its trials are trained and scored on.
        stores: the tracking URIs, without passwords, that have answered once.
    """

    datasets: tuple[DatasetUse, ...]
    stores: tuple[str, ...] = ()

    @classmethod
    def load(cls, sweep: Store) -> TrackingNote | None:
        """Reads the note of a sweep; None if there is none.

        Raises:
            ValueError: if it is damaged.
        """
        advice = "delete it: the sweep's next run writes it again"
        return read_value(sweep, MLFLOW_NOTE, partial(typed, cls), advice)

    def save(self, sweep: Store) -> None:
        """Writes the note beside a sweep's trials."""
        put_json(sweep, MLFLOW_NOTE, asdict(self))

    def answered(self, store: str) -> TrackingNote:
        """Returns the note with one more store that has answered."""
        return replace(self, stores=(*self.stores, store)) if store not in self.stores else self


def has_answered(sweeps: Store, store: str) -> bool:
    """Says whether a store has answered when some sweep of these ran."""
    notes = (TrackingNote.load(sweeps.below(name)) for name in sweeps.folders())
    return any(store in note.stores for note in notes if note is not None)


@dataclass(frozen=True)
class SweepIdentity:
    """A SweepIdentity holds what all runs of a sweep share.

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

    @classmethod
    def of(cls, definition: SweepDefinition, question: str, note: TrackingNote) -> SweepIdentity:
        """Returns the identity of a sweep of this definition."""
        return cls(definition.name, definition.metric, definition.mode, question, note.datasets)

    @property
    def roles(self) -> tuple[str, ...]:
        """Returns the benchmarks that every checkpoint is scored on."""
        return tuple(use.context for use in self.datasets if use.context != "training")
