"""TrackingNote: what MLflow is told of a sweep that its trials' folders do not say."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from r2d2.formats.stored_json import typed
from r2d2.storage.store import Store
from runner.record.history import put_json, read_value
from runner.tracking.run import DatasetUse

NOTE = "mlflow.json"


@dataclass(frozen=True)
class TrackingNote:
    """A sweep and MLflow.

    Attributes:
        datasets: what its trials are trained and scored on.
        stores: the tracking URIs, without passwords, that have answered once.
    """

    datasets: tuple[DatasetUse, ...]
    stores: tuple[str, ...] = ()

    @classmethod
    def load(cls, sweep: Store) -> TrackingNote | None:
        """The note of a sweep; None if there is none.

        Raises:
            ValueError: if it is damaged.
        """
        return read_value(sweep, NOTE, cls._from_json, "delete it: the sweep's next run writes it again")

    @classmethod
    def _from_json(cls, values: dict[str, Any]) -> TrackingNote:
        datasets = tuple(typed(DatasetUse, use) for use in values["datasets"])
        return typed(cls, {"datasets": datasets, "stores": values["stores"]})

    def save(self, sweep: Store) -> None:
        """Keeps the note beside a sweep's trials."""
        datasets = [vars(use) for use in self.datasets]
        put_json(sweep, NOTE, {"datasets": datasets, "stores": list(self.stores)})

    def answered(self, store: str) -> TrackingNote:
        """The same, with a store that has answered."""
        return replace(self, stores=(*self.stores, store)) if store not in self.stores else self


def has_answered(sweeps: Store, store: str) -> bool:
    """Whether a store has answered when some sweep of these ran."""
    notes = (TrackingNote.load(sweeps.below(name)) for name in sweeps.folders())
    return any(store in note.stores for note in notes if note is not None)
