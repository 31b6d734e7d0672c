"""Defines History: the events of a trial, one small file each.

The training worker and the validation task write it, each event complete or not at all. Tune, MLflow and the
tables only read it. So nothing is lost whichever process dies, and a resumed sweep reports the same events to
its schedulers and to MLflow again.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from r2d2.formats.printable import printable
from r2d2.formats.stored_json import parse_json, typed
from r2d2.storage.atomic import atomic_file
from r2d2.storage.location import folder_of, store_at
from r2d2.storage.store import ObjectInfo, Store
from runner.record.attempt import Attempt
from runner.record.layout import EVENT, FAILURE, STOPPED_EARLY, TRAIN_RUN, beside_table, event_name

if TYPE_CHECKING:
    from evaluation.evaluation import Evaluation
    from evaluation.pictures.maps import ImageMaps

T = TypeVar("T")

TRAIN = "train"
# Seconds between two looks at a history that is followed. On S3 each look is a request.
FOLLOW_S, FOLLOW_REMOTE_S = 0.5, 2.0


@dataclass(frozen=True)
class Record:
    """A Record is one event: an epoch was trained (kind "train"), or a checkpoint scored (kind: benchmark).

    Attributes:
        metrics: the figures, with full names such as `train/loss_total` or `validation/mma_3px`.
        checkpoint: URI of the epoch's checkpoint; written down as its path below the trial's folder.
        evaluation: file of the complete table, relative to the history's folder; None for training.
        error: why a checkpoint could not be scored; None if it could.
        attempt: number of the sweep's attempt that wrote it; None outside of one.
        time: milliseconds since 1970 at which it was written down, which its file says; None: not yet.
    """

    epoch: int
    kind: str
    metrics: Mapping[str, float]
    checkpoint: str
    evaluation: str | None = None
    error: str | None = None
    attempt: int | None = None
    time: int | None = field(default=None, compare=False)

    @property
    def name(self) -> str:
        """Names the event's file; the same event always has the same name."""
        return event_name(self.epoch, self.kind)


class History:
    """A History holds the events of one trial, in a folder or on S3.

    Attributes:
        attempt: the attempt that writes; once a later one has taken the sweep over, nothing is written. None:
            nobody else can write.
    """

    def __init__(self, place: str | Path | Store, attempt: Attempt | None = None) -> None:
        self.store = store_at(place)
        self.attempt = attempt
        self._trial = self.store.place.rpartition("/")[0]

    @property
    def folder(self) -> Path:
        """Returns the folder of the events; fails if they are on S3."""
        return folder_of(self.store)

    def require_current(self) -> None:
        """Checks, before something is written, that no later attempt has taken over.

        Raises:
            SupersededError: if a later attempt has taken over.
        """
        if self.attempt is not None:
            self.attempt.require_current()

    def write(self, record: Record) -> None:
        """Adds an event, or replaces the same event of an earlier attempt.

        Raises:
            SupersededError: if a later attempt has taken over; so do the marks below.
        """
        self.require_current()
        if self.attempt is not None:
            record = dataclasses.replace(record, attempt=self.attempt.number)
        if record.checkpoint.startswith(f"{self._trial}/{TRAIN_RUN}/"):
            record = dataclasses.replace(record, checkpoint=record.checkpoint[len(self._trial) + 1 :])
        put_json(self.store, record.name, {k: v for k, v in vars(record).items() if v is not None})

    def _record(self, name: str, content: bytes) -> Record:
        """Reads an event; its checkpoint lies below the present place of the trial."""
        record = parse_json(content, f"{self.store.place}/{name}", partial(typed, Record))
        # It may be the whole path, at which the trial lay before it was moved.
        below = record.checkpoint.rpartition(f"/{self._trial.rpartition('/')[2]}/")[2]
        if not below.startswith(f"{TRAIN_RUN}/"):
            return record
        return dataclasses.replace(record, checkpoint=f"{self._trial}/{below}")

    def records(self) -> list[Record]:
        """Returns all events, by epoch, training before scores."""
        found = sorted((f for f in self.store.files() if EVENT.fullmatch(f.name)), key=_order)
        contents = zip(found, self.store.read_all(found), strict=True)
        return [
            dataclasses.replace(self._record(file.name, content), time=int(file.modified * 1000))
            for file, content in contents
            if content is not None
        ]

    def find(self, epoch: int, kind: str) -> Record | None:
        """Finds the event of this epoch and kind; None if it did not happen."""
        name = event_name(epoch, kind)
        content = self.store.read(name)
        return None if content is None else self._record(name, content)

    def is_complete(self, epochs: int, roles: Collection[str]) -> bool:
        """Says whether every epoch (or the start, for a trial of 0 epochs) was scored on every benchmark."""
        scored = {(r.epoch, r.kind) for r in self.records() if r.error is None}
        wanted = range(1, epochs + 1) if epochs else [0]
        return all((epoch, role) in scored for epoch in wanted for role in roles)

    def mark_stopped(self, epoch: int) -> None:
        """Writes down that the scheduler stopped the trial, so that no later attempt continues it."""
        self.require_current()
        put_json(self.store, STOPPED_EARLY, {"epoch": epoch})

    @property
    def stopped_after(self) -> int | None:
        """Returns the epoch after which the scheduler stopped the trial; None if it did not."""
        return read_value(self.store, STOPPED_EARLY, lambda values: int(values["epoch"]))

    def mark_failed(self, reason: str | None) -> None:
        """Writes down why the trial's present attempt failed; None removes the mark."""
        self.require_current()
        if reason is None:
            self.store.delete(FAILURE)
        else:
            put_json(self.store, FAILURE, {"reason": printable(reason)})

    @property
    def failure(self) -> str | None:
        """Says why the last attempt failed; None if it did not, or its process died without writing."""
        return read_value(self.store, FAILURE, lambda values: str(values["reason"]))

    def follow(self, finished: Callable[[], bool], interval: float | None = None) -> Iterator[Record]:
        """Yields every event once, those of the past first, until `finished` and nothing is left.

        A score that failed at first and later succeeded counts as two events.

        Args:
            finished: whether nothing new is written any more.
            interval: seconds between two looks; None: as the place allows.
        """
        if interval is None:
            interval = FOLLOW_REMOTE_S if self.store.is_remote else FOLLOW_S
        told: set[tuple[str, bool]] = set()
        while True:
            last = finished()
            for record in self.records():
                event = (record.name, record.error is None)
                if event not in told:
                    told.add(event)
                    yield record
            if last:
                return
            time.sleep(interval)


def final_scores(records: Sequence[Record]) -> list[Record]:
    """Returns the last score on each benchmark."""
    return list({r.kind: r for r in records if r.kind != TRAIN and r.evaluation is not None}.values())


def read_evaluation(history: History, record: Record) -> Evaluation:
    """Reads the complete table of a score, with its example matches if they still exist."""
    from evaluation.evaluation import Evaluation
    from evaluation.pictures.examples import unpack_examples

    assert record.evaluation is not None
    table = history.store.read(record.evaluation)
    if table is None:
        raise ValueError(f"{history.store.place}/{record.evaluation} is gone, which {record.name} belongs to")
    evaluation = parse_json(table, f"{history.store.place}/{record.evaluation}", Evaluation.from_json)
    name = beside_table(record.evaluation, "examples")
    content = history.store.read(name)
    if content is None:
        return evaluation
    examples = unpack_examples(content, f"{history.store.place}/{name}")
    return dataclasses.replace(evaluation, examples=examples)


def read_maps(history: History, record: Record) -> tuple[ImageMaps, ...]:
    """Reads the maps of a few images that the scored network computed; empty if none were written."""
    from evaluation.pictures.maps import unpack_maps

    assert record.evaluation is not None
    name = beside_table(record.evaluation, "maps")
    content = history.store.read(name)
    return () if content is None else unpack_maps(content, f"{history.store.place}/{name}")


def _order(file: ObjectInfo) -> tuple[int, bool, str]:
    """Orders by epoch, training before scores."""
    match = EVENT.fullmatch(file.name)
    assert match is not None
    return int(match[1]), match[2] != TRAIN, match[2]


def put_json(store: Store, name: str, value: Mapping[str, Any]) -> None:
    """Stores a value as a JSON file, completely or not at all."""
    store.write(name, json.dumps(value, indent=1).encode())


def read_value(store: Store, name: str, build: Callable[[Any], T], advice: str = "") -> T | None:
    """Reads what `put_json` stored; None if there is no such file. Otherwise as `parse_json`.

    Args:
        store: where it lies.
        name: of the file.
        build: as of `parse_json`.
        advice: as of `parse_json`.
    """
    content = store.read(name)
    return None if content is None else parse_json(content, f"{store.place}/{name}", build, advice)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Writes a JSON file completely or not at all."""
    with atomic_file(path) as file:
        file.write(json.dumps(value, indent=1).encode())
