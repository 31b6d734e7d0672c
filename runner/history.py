"""History: what a trial has lived through, one small file per event.

It is the truth of a sweep. The training worker and the judge's task write it, each event complete or not at
all; Tune, MLflow and the tables only read it, so that nothing is lost whichever process dies, and a resumed
sweep tells its schedulers and trackers the same story again.
"""

from __future__ import annotations

import dataclasses
import json
import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from r2d2.atomic import atomic_file
from runner.attempt import Attempt

if TYPE_CHECKING:
    from evaluation.evaluation import Evaluation
    from evaluation.maps import ImageMaps

TRAIN = "train"
HISTORY = "history"
STOPPED = "stopped.json"
FAILURE = "failed.json"
_NAME = re.compile(r"epoch_(\d+)\.([a-z0-9_]+)\.json")


@dataclass(frozen=True)
class Record:
    """One event: an epoch was trained (kind "train") or a checkpoint was scored (kind: the benchmark).

    Attributes:
        metrics: the figures, with full names such as `train/loss_total` or `validation/mma_3px`.
        checkpoint: URI of the epoch's checkpoint.
        evaluation: file of the complete table, relative to the history's folder; None for training.
        error: why a checkpoint could not be scored; None if it could.
        attempt: number of the sweep's attempt that wrote it; None outside of one.
    """

    epoch: int
    kind: str
    metrics: Mapping[str, float]
    checkpoint: str
    evaluation: str | None = None
    error: str | None = None
    attempt: int | None = None

    @property
    def name(self) -> str:
        """The file's name; the same event always has the same."""
        return f"epoch_{self.epoch:03d}.{self.kind}.json"


class History:
    """The events of one trial, in a folder.

    Attributes:
        attempt: for which is written: nothing is, once a later one has taken the sweep over. None: nobody
            else can write.
    """

    def __init__(self, folder: Path, attempt: Attempt | None = None) -> None:
        self.folder = folder
        self.attempt = attempt

    def require_current(self) -> None:
        """Looks before something is written.

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
        write_json(self.folder / record.name, {k: v for k, v in vars(record).items() if v is not None})

    def records(self) -> list[Record]:
        """All events, by epoch, training before scores."""
        names = [m for p in self.folder.glob("epoch_*.json") if (m := _NAME.fullmatch(p.name))]
        names.sort(key=lambda m: (int(m[1]), m[2] != TRAIN, m[2]))
        return [Record(**json.loads((self.folder / m[0]).read_text())) for m in names]

    def find(self, epoch: int, kind: str) -> Record | None:
        """The event of this epoch and kind, if it happened."""
        return next((r for r in self.records() if (r.epoch, r.kind) == (epoch, kind)), None)

    def is_complete(self, epochs: int, roles: Collection[str]) -> bool:
        """Whether every epoch (or, of a trial of 0 epochs, the start) was scored on every benchmark."""
        scored = {(r.epoch, r.kind) for r in self.records() if r.error is None}
        wanted = range(1, epochs + 1) if epochs else [0]
        return all((epoch, role) in scored for epoch in wanted for role in roles)

    def mark_stopped(self, epoch: int) -> None:
        """Writes down that the scheduler stopped the trial, so that no later attempt continues it."""
        self.require_current()
        write_json(self.folder / STOPPED, {"epoch": epoch})

    @property
    def stopped_after(self) -> int | None:
        """The epoch after which the scheduler stopped the trial; None if it did not."""
        path = self.folder / STOPPED
        return int(json.loads(path.read_text())["epoch"]) if path.is_file() else None

    def mark_failed(self, reason: str | None) -> None:
        """Writes down why the trial's present attempt failed; None takes it back."""
        self.require_current()
        if reason is None:
            (self.folder / FAILURE).unlink(missing_ok=True)
        else:
            write_json(self.folder / FAILURE, {"reason": reason})

    @property
    def failure(self) -> str | None:
        """Why the last attempt failed; None if it did not, or died without a word."""
        path = self.folder / FAILURE
        return str(json.loads(path.read_text())["reason"]) if path.is_file() else None

    def follow(self, finished: Callable[[], bool], interval: float = 0.5) -> Iterator[Record]:
        """Yields every event once, those of the past first, until `finished` and nothing is left.

        A score that failed at first and then succeeded is two events.
        """
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
    """The last score on each benchmark."""
    return list({r.kind: r for r in records if r.kind != TRAIN and r.evaluation is not None}.values())


def read_evaluation(history: History, record: Record) -> Evaluation:
    """The complete table of a score, with its example matches if they are still there."""
    from evaluation.evaluation import Evaluation
    from evaluation.examples import load_examples

    assert record.evaluation is not None
    evaluation = Evaluation.from_json(json.loads((history.folder / record.evaluation).read_text()))
    path = _beside_table(history, record, "examples")
    return dataclasses.replace(evaluation, examples=load_examples(path)) if path.is_file() else evaluation


def read_maps(history: History, record: Record) -> tuple[ImageMaps, ...]:
    """What the scored network sees in a few images; nothing of a score that was written without."""
    from evaluation.maps import load_maps

    path = _beside_table(history, record, "maps")
    return load_maps(path) if path.is_file() else ()


def _beside_table(history: History, record: Record, what: str) -> Path:
    """The archive of that kind which belongs to the table of a score."""
    assert record.evaluation is not None
    name = record.evaluation.replace("table_", f"{what}_")
    return (history.folder / name).with_suffix(".npz")


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Writes a JSON file completely or not at all."""
    with atomic_file(path) as file:
        file.write(json.dumps(value, indent=1).encode())
