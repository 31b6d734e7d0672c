"""StoredSweep: what a sweep's folder holds, finished or not. It needs no Ray, no MLflow, no photographs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from r2d2.config import TrainConfig
from r2d2.formats.stored_json import parse_json
from r2d2.storage.open import folder_of, open_store, store_at
from r2d2.storage.store import Store
from r2d2.unknown import did_you_mean
from runner.record.definition import FILE as DEFINITION
from runner.record.definition import SweepDefinition
from runner.record.history import HISTORY, TRIAL_CONFIG, History
from search_spaces.sweep import Trial

TRIALS = "trials"
QUESTION = "question.txt"


class StoredSweep:
    """The trials of one sweep, in a folder or on S3."""

    def __init__(self, place: str | Path | Store) -> None:
        self.store = store_at(place)

    @property
    def name(self) -> str:
        """The sweep's name, the last of its place."""
        return self.store.place.rpartition("/")[2]

    @property
    def folder(self) -> Path:
        """Where the sweep lies, if that is a folder."""
        return folder_of(self.store)

    @property
    def definition(self) -> SweepDefinition:
        """What the sweep was started with.

        Raises:
            ValueError: if there is no such sweep; names those there are.
        """
        definition = SweepDefinition.load(self.store)
        if definition is None:
            above = self.store.place.rpartition("/")[0]
            known = sweep_names(open_store(above, self.store.timeout))
            raise ValueError(
                f"there is no sweep '{self.name}' in {above}; known: {', '.join(known) or 'none'}"
                f"{did_you_mean(self.name, known)}"
            )
        return definition

    @property
    def question(self) -> str:
        """What the sweep asks, as it was written down when it last ran; empty if it was not."""
        return (self.store.read(QUESTION) or b"").decode()

    def trials(self) -> list[Trial]:
        """The trials that were started, the oldest first.

        Raises:
            ValueError: if one was written by a version of this program with other settings.
        """
        names = [f"{TRIALS}/{key}/{TRIAL_CONFIG}" for key in self.store.folders(TRIALS)]
        found = sorted(filter(None, self.store.find_all(names)), key=lambda file: file.modified)
        contents = self.store.read_all(found)
        return [
            _read_trial(f"{self.store.place}/{file.name}", content)
            for file, content in zip(found, contents, strict=True)
            if content is not None
        ]

    def trial_store(self, trial: Trial) -> Store:
        """Holds the trial's configuration, history and checkpoints."""
        return self.store.below(f"{TRIALS}/{trial.key}")

    def trial_folder(self, trial: Trial) -> Path:
        """The same as a folder, if it is one."""
        return folder_of(self.trial_store(trial))

    def history(self, trial: Trial) -> History:
        """What the trial has lived through."""
        return History(self.trial_store(trial).below(HISTORY))

    def has_ended(self, trial: Trial, roles: Sequence[str]) -> bool:
        """Whether the trial was trained and scored on these benchmarks, or stopped by its scheduler."""
        history = self.history(trial)
        return history.stopped_after is not None or history.is_complete(trial.config.epochs, roles)


def sweep_names(sweeps: Store) -> list[str]:
    """The sweeps that were begun, by name."""
    names = sweeps.folders()
    found = sweeps.find_all(f"{name}/{DEFINITION}" for name in names)
    return [name for name, file in zip(names, found, strict=True) if file is not None]


def _read_trial(path: str, content: bytes) -> Trial:
    trial = Trial(parse_json(content, path, TrainConfig.from_dict))
    if trial.key != path.split("/")[-2]:
        raise ValueError(
            f"{path} was written by another version of this program, whose settings differ from today's; "
            "read that sweep with the version that its MLflow runs name (r2d2.code_version)"
        )
    return trial
