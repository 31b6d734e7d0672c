"""Prunes what is no longer needed; lists it with its size before it is deleted.

The list never holds: checkpoints of a trial that has not ended, the best and the last ones of any trial, what
a registered model version was made from, and anything of a sweep that runs.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from r2d2.storage.location import open_store
from r2d2.storage.store import Store
from runner.record.attempt import read_claim
from runner.record.definition import SweepDefinition
from runner.record.history import TRAIN, Record
from runner.record.layout import DEFINITION, TRAIN_RUN, TRIALS, checkpoint_name, checkpoint_position
from runner.record.lease import hold
from runner.record.sweep import StoredSweep
from runner.settings import Settings
from search_spaces.sweep import Trial

if TYPE_CHECKING:
    from mlflow.entities import Experiment

    from runner.tracking.experiments import Tracker
    from runner.tracking.run import LoggedRun

KEEP = 3
TUNE = "tune"
PREDICTIONS = "predictions"


@dataclass(frozen=True)
class Item:
    """An Item is one thing that can be deleted.

    Attributes:
        what: where it is.
        why: why it is not needed, in words.
        size: bytes.
        delete: deletes it.
        sweep: the sweep whose driver must not run meanwhile; empty: none.
    """

    what: str
    why: str
    size: int
    delete: Callable[[], None]
    sweep: str = ""


@dataclass(frozen=True)
class Registered:
    """A Registered says what model versions were made from.

    Attributes:
        runs: ids of MLflow's runs.
        checkpoints: (sweep, key of the trial, epoch).
    """

    runs: frozenset[str]
    checkpoints: frozenset[tuple[str, str, int]]


def find_items(
    settings: Settings,
    open_tracker: Callable[[], Tracker],
    sweep: str | None = None,
    keep: int = KEEP,
    failed: bool = False,
) -> Iterator[Item]:
    """Finds what can be deleted of one sweep, or of all that is here.

    Args:
        settings: where things are.
        open_tracker: opens the MLflow store. It is called only if the answer depends on the store, because
            importing MLflow takes seconds.
        sweep: the name of one; None: all, stored predictions, MLflow's runs of sweeps that are gone.
        keep: best and last checkpoints that stay of each trial.
        failed: whether failed trials go too.

    Raises:
        ValueError: if there is no such sweep.
    """
    home = settings.sweeps
    if sweep is not None:
        _ = StoredSweep(settings.sweep(sweep)).definition
    tracker = cache(open_tracker)
    versions = cache(lambda: registered(tracker()))
    for name in home.folders() if sweep is None else [sweep]:
        if not runs(home, name):
            yield from _of_sweep(StoredSweep(home.below(name)), versions, keep, failed)
    if sweep is None:
        yield from _predictions(settings)
        yield from _runs_without_sweep(settings, tracker, versions)


def delete(items: Sequence[Item], settings: Settings) -> None:
    """Deletes the items of a sweep, while no driver can run it.

    Raises:
        ValueError: if one does.
    """
    for sweep in dict.fromkeys(item.sweep for item in items):
        with hold(settings.sweep(sweep), settings.lease_seconds) if sweep else nullcontext():
            for item in [item for item in items if item.sweep == sweep]:
                item.delete()


def runs(home: Store, sweep: str) -> bool:
    """Says whether a driver runs a sweep, or may."""
    claim = read_claim(home.below(sweep))
    return claim is not None and not claim.is_over


def registered(tracker: Tracker) -> Registered:
    """Finds what the store's model versions were made from, with or without an alias."""
    versions, token = [], None
    while True:
        page = tracker.client.search_model_versions(page_token=token)
        versions += [version for version in page if version.run_id]
        token = page.token
        if not token:
            break
    checkpoints = set()
    for version in versions:
        run = tracker.get_run(str(version.run_id))
        if "epoch" in version.tags:
            checkpoints.add((run.tags.get("sweep", ""), run.key, int(version.tags["epoch"])))
    return Registered(frozenset(str(version.run_id) for version in versions), frozenset(checkpoints))


def removable(
    checkpoints: Collection[str], records: Collection[Record], metric: str, mode: str, keep: int
) -> list[str]:
    """Returns the checkpoints of an ended trial that are neither among its best nor among its last.

    Args:
        checkpoints: names of their folders.
        records: the trial's history.
        metric: the score that decides.
        mode: `max` or `min`.
        keep: how many of the best and how many of the last stay.
    """
    places = {name: place for name in checkpoints if (place := checkpoint_position(name)) is not None}
    epochs = {epoch: name for name, (epoch, step) in places.items() if math.isinf(step)}
    sign = 1 if mode == "max" else -1
    scores = {r.epoch: sign * r.metrics[metric] for r in records if metric in r.metrics and r.kind != TRAIN}
    best = sorted((e for e in epochs if e in scores), key=lambda e: scores[e], reverse=True)[:keep]
    last = sorted(epochs)[-keep:]
    unscored = [epoch for epoch in epochs if epoch not in scores]
    kept = {epochs[epoch] for epoch in (*best, *last, *unscored)}
    # What lies between two epochs is for a trial that goes on.
    return sorted(places.keys() - kept)


def _of_sweep(
    stored: StoredSweep, versions: Callable[[], Registered], keep: int, failed: bool
) -> Iterator[Item]:
    store, name, definition = stored.store, stored.name, SweepDefinition.load(stored.store)
    if definition is None:
        yield _folder(store, "", f"a sweep that was never begun, or whose {DEFINITION} is gone", "")
        return
    if store.folders(TUNE):
        yield _folder(store, TUNE, "Tune's own files, which are never read again", name)
    known = {trial.key: trial for trial in stored.trials()}
    for key in store.folders(TRIALS):
        trial = known.get(key)
        folder = f"{TRIALS}/{key}"
        if trial is None or not _belongs(trial, definition):
            yield _folder(store, folder, "a trial that the sweep does not have", name)
        elif failed and stored.history(trial).failure is not None:
            yield _folder(store, folder, "a trial that failed", name)
        else:
            yield from _checkpoints(stored, definition, trial, versions, keep)


def _belongs(trial: Trial, definition: SweepDefinition) -> bool:
    """Says whether a stored trial belongs to its sweep: listed, suggested, or a starting network."""
    return not definition.trials or trial.key in definition.trials or not trial.config.epochs


def _checkpoints(
    stored: StoredSweep,
    definition: SweepDefinition,
    trial: Trial,
    versions: Callable[[], Registered],
    keep: int,
) -> Iterator[Item]:
    if not stored.has_ended(trial, tuple(definition.benchmarks)):
        return
    folder, records = f"{TRIALS}/{trial.key}/{TRAIN_RUN}", stored.history(trial).records()
    names = removable(stored.store.folders(folder), records, definition.metric, definition.mode, keep)
    if not names:
        return
    ours = (definition.name, trial.key)
    pinned = {checkpoint_name(epoch) for *of, epoch in versions().checkpoints if tuple(of) == ours}
    for name in [name for name in names if name not in pinned]:
        why = f"a checkpoint that is neither among the {keep} best nor the {keep} last"
        yield _folder(stored.store, f"{folder}/{name}", why, definition.name)


def _folder(store: Store, name: str, why: str, sweep: str) -> Item:
    size = sum(file.size for file in store.walk(name))
    where = f"{store.place}/{name}" if name else store.place
    return Item(where, why, size, lambda: store.delete_below(name), sweep)


def _predictions(settings: Settings) -> Iterator[Item]:
    store = open_store(settings.cache)
    if PREDICTIONS in store.folders():
        yield _folder(store, PREDICTIONS, "stored predictions, which can be made again", "")


def _runs_without_sweep(
    settings: Settings, open_tracker: Callable[[], Tracker], versions: Callable[[], Registered]
) -> Iterator[Item]:
    """Finds MLflow's runs, with files, of this home's sweeps that are gone; not those of other homes."""
    present = {*settings.sweeps.folders(), "Default"}
    known = _local_experiments(settings)
    if known is not None and known <= present:
        return
    tracker = open_tracker()
    for experiment in tracker.client.search_experiments():
        if experiment.name in present:
            continue
        found = tracker.list_runs(experiment.name)
        if not _is_ours(experiment, found, settings):
            continue
        for run in [run for run in found if run.run_id not in versions().runs]:
            yield _run(tracker, run, experiment.name)


def _local_experiments(settings: Settings) -> set[str] | None:
    """The names of a local store's experiments, read from its file; None: only MLflow can say them."""
    scheme, _, path = settings.tracking_uri.partition(":///")
    if scheme != "sqlite":
        return None
    if not Path(path).is_file():
        return set()
    active = "SELECT name FROM experiments WHERE lifecycle_stage = 'active'"
    try:
        with closing(sqlite3.connect(path)) as connection:
            return {str(name) for (name,) in connection.execute(active)}
    except sqlite3.Error:
        return None


def _is_ours(experiment: Experiment, runs: Sequence[LoggedRun], settings: Settings) -> bool:
    """Says whether an experiment is of a sweep of this home, by the places of its files and checkpoints."""
    root, checkpoints = settings.artifact_root, f"{settings.sweeps.place}/{experiment.name}/"
    if root is not None and (experiment.artifact_location or "").startswith(f"{root}/"):
        return True
    return any(checkpoints in value for run in runs for value in run.tags.values())


def _run(tracker: Tracker, run: LoggedRun, experiment: str) -> Item:
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    place = tracker.client.get_run(run.run_id).info.artifact_uri
    repository = get_artifact_repository(place) if _may_delete(place, tracker.artifact_root) else None

    def size(path: str | None = None) -> int:
        files = repository.list_artifacts(path) if repository is not None else ()
        return sum(size(file.path) if file.is_dir else file.file_size or 0 for file in files)

    def remove() -> None:
        if repository is not None:
            repository.delete_artifacts()  # type: ignore[no-untyped-call]
        tracker.client.delete_run(run.run_id)

    files = "with its files" if repository is not None else f"without its files at {place}"
    return Item(
        f"run '{run.name}' ({run.run_id}) of the MLflow experiment '{experiment}', {files}",
        "its sweep is gone",
        size(),
        remove,
    )


def _may_delete(place: str, root: str | None) -> bool:
    """Says whether a run's files lie with the MLflow server, or where a local store keeps its own.

    The server says where they lie. It could name any folder of this machine, or any bucket of this user.
    """
    from urllib.parse import unquote, urlsplit

    parts = urlsplit(place)
    if parts.scheme == "mlflow-artifacts":
        return True
    if parts.scheme not in ("", "file") or root is None:
        return False
    return Path(unquote(parts.path)).resolve().is_relative_to(Path(root).resolve())
