"""Defines StoredSweep: what a sweep's folder holds, and how its trials ended. It needs no Ray, no MLflow."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from r2d2.config import TrainConfig
from r2d2.formats.stored_json import parse_json
from r2d2.storage.location import folder_of, open_store, store_at
from r2d2.storage.store import Store
from r2d2.unknown import did_you_mean
from runner.record.definition import SweepDefinition
from runner.record.history import History
from runner.record.layout import DEFINITION, HISTORY, QUESTION, TRAIN_RUN, TRIAL_CONFIG, TRIALS
from search_spaces.sweep import Trial

INTERRUPTED = "interrupted; the same command continues it"

Status = Literal["FINISHED", "FAILED", "KILLED"]


@dataclass(frozen=True)
class Ending:
    """An Ending says how a trial ended.

    Attributes:
        status: as MLflow knows it.
        reason: why it ended so; None for a finished trial.
    """

    status: Status
    reason: str | None = None

    @property
    def word(self) -> str:
        """Returns the status for a person: what MLflow calls killed was stopped, or interrupted."""
        return "stopped" if self.status == "KILLED" else self.status.lower()


class StoredSweep:
    """A StoredSweep holds the trials of one sweep, in a folder or on S3."""

    def __init__(self, place: str | Path | Store) -> None:
        self.store = store_at(place)

    @property
    def name(self) -> str:
        """Returns the sweep's name, the last part of its place."""
        return self.store.place.rpartition("/")[2]

    @property
    def folder(self) -> Path:
        """Returns the sweep's folder; fails if the sweep is on S3."""
        return folder_of(self.store)

    @property
    def definition(self) -> SweepDefinition:
        """Reads what the sweep was started with.

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
        """Reads what the sweep asks, as written down when it last ran; empty if it was not."""
        return (self.store.read(QUESTION) or b"").decode()

    def trials(self) -> list[Trial]:
        """Returns the trials that were started, the oldest first.

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
        """Opens the place of the trial's configuration, history and checkpoints."""
        return self.store.below(f"{TRIALS}/{trial.key}")

    def trial_folder(self, trial: Trial) -> Path:
        """Returns the same place as a folder; fails on S3."""
        return folder_of(self.trial_store(trial))

    def history(self, trial: Trial) -> History:
        """Opens the history of a trial."""
        return History(self.trial_store(trial).below(HISTORY))

    def has_ended(self, trial: Trial, roles: Sequence[str]) -> bool:
        """Says whether the trial was trained and scored on these benchmarks, or stopped by its scheduler."""
        history = self.history(trial)
        return history.stopped_after is not None or history.is_complete(trial.config.epochs, roles)


def sweep_names(sweeps: Store) -> list[str]:
    """Returns the names of the sweeps that were begun."""
    names = sweeps.folders()
    found = sweeps.find_all(f"{name}/{DEFINITION}" for name in names)
    return [name for name, file in zip(names, found, strict=True) if file is not None]


def stopped_early(epoch: int) -> Ending:
    """Makes the ending of a trial that a scheduler stopped."""
    return Ending("KILLED", f"stopped early by its score after epoch {epoch}")


def stored_ending(trial: Trial, history: History, roles: Collection[str]) -> Ending:
    """Says how a trial that nobody runs ended.

    Args:
        trial: of a sweep without a driver.
        history: of the trial.
        roles: the benchmarks that a complete trial was scored on.
    """
    if history.is_complete(trial.config.epochs, roles):
        return Ending("FINISHED")
    if history.stopped_after is not None:
        return stopped_early(history.stopped_after)
    if history.failure is not None:
        return Ending("FAILED", history.failure)
    return Ending("KILLED", INTERRUPTED)


def choose_failed(stored: StoredSweep, keys: Sequence[str] = ()) -> dict[str, str]:
    """Finds the failed trials of a sweep and why they failed, by key.

    Args:
        stored: the sweep.
        keys: the trials to choose; none: all failed ones.

    Raises:
        ValueError: if no trial failed, or one that is named did not.
    """
    failed = {t.key: reason for t in stored.trials() if (reason := stored.history(t).failure) is not None}
    others = [key for key in keys if key not in failed]
    if others or not failed:
        what = f"the trial '{others[0]}'" if others else "no trial"
        known = f"; failed ones: {', '.join(failed) or 'none'}" if others else ""
        raise ValueError(f"{what} of the sweep '{stored.name}' has {'not ' if others else ''}failed{known}")
    return {key: reason for key, reason in failed.items() if not keys or key in keys}


def forget(stored: StoredSweep, keys: Iterable[str]) -> None:
    """Removes the histories and checkpoints of trials, so that they start anew."""
    for trial in [trial for trial in stored.trials() if trial.key in set(keys)]:
        for name in (TRAIN_RUN, HISTORY):
            stored.trial_store(trial).delete_below(name)


def _read_trial(path: str, content: bytes) -> Trial:
    trial = Trial(parse_json(content, path, TrainConfig.from_dict))
    if trial.key != path.split("/")[-2]:
        raise ValueError(
            f"{path} was written by another version of this program, whose settings differ from today's; "
            "read that sweep with the version that its MLflow runs name (r2d2.code_version)"
        )
    return trial
