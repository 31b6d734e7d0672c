"""TrackingNote: what MLflow is told of a sweep that its trials' folders do not say."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

from runner.history import write_json
from runner.trial_run import DatasetUse

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
    def load(cls, sweep: Path) -> TrackingNote | None:
        """The note in a sweep's folder; None if there is none."""
        path = sweep / NOTE
        if not path.is_file():
            return None
        content = json.loads(path.read_text())
        return cls(tuple(DatasetUse(**use) for use in content["datasets"]), tuple(content["stores"]))

    def save(self, sweep: Path) -> None:
        """Writes the note into a sweep's folder."""
        datasets = [vars(use) for use in self.datasets]
        write_json(sweep / NOTE, {"datasets": datasets, "stores": list(self.stores)})

    def answered(self, store: str) -> TrackingNote:
        """The same, with a store that has answered."""
        return replace(self, stores=(*self.stores, store)) if store not in self.stores else self


def has_answered(sweeps: Path, store: str) -> bool:
    """Whether a store has answered when some sweep of this folder of sweeps ran."""
    notes = (TrackingNote.load(path.parent) for path in sorted(sweeps.glob(f"*/{NOTE}")))
    return any(store in note.stores for note in notes if note is not None)
