"""What must hold of a sweep that has ended, whatever happened to it meanwhile."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

# A checkpoint's epoch and step; the checkpoint after the epoch comes after all those in its middle.
Position = tuple[int, float]
KEPT, LISTED, TRAINED = "kept", "listed", "trained"

_WRITTEN = re.compile(r".*/trials/([^/]+)/(train|history)/(.+)")
_CHECKPOINT = re.compile(r"checkpoint_(\d+)(?:_step_(\d+))?")
_EPOCH = re.compile(r"epoch_(\d+)\.train\.json")


@dataclass(frozen=True)
class Run:
    """What MLflow has of a trial.

    Attributes:
        status: FINISHED, FAILED and so on.
        figures: how often it has each (metric, step, value).
    """

    status: str
    figures: Mapping[tuple[str, int, float], int]


@dataclass(frozen=True)
class Outcome:
    """What a sweep has left behind; keys are those of trials.

    Attributes:
        endings: how each trial ended; `complete` if it was trained and scored to its end.
        events: each trial's history: (epoch, kind, figures, the table of a score pair by pair).
        table: the rows of the comparison.
        figures: what MLflow should have of each trial.
        runs: what MLflow has, a key and a run for each.
        written: what was kept of trainings, in order: (trial, what, position); a checkpoint (KEPT), Ray
            Train's list of them (LISTED, with the last one in it), or that an epoch was trained (TRAINED).
        running: processes and actors of the sweep that live on.
        left: names of files that its processes left in the folder for temporary files.
    """

    endings: Mapping[str, str]
    events: Mapping[str, Sequence[tuple]]
    table: object
    figures: Mapping[str, Mapping[tuple[str, int, float], int]]
    runs: Sequence[tuple[str, Run]]
    written: Sequence[tuple[str, str, Position]] = ()
    running: Sequence[str] = ()
    left: Sequence[str] = ()


def violations(found: Outcome, undisturbed: Outcome) -> list[str]:
    """What is wrong with a sweep that was disturbed, a sentence each; empty if nothing is.

    Args:
        found: what it left behind.
        undisturbed: what the same sweep leaves behind if nothing happens to it.
    """
    return [
        *_wrong_endings(found, undisturbed),
        *_other_figures(found, undisturbed),
        *_unseen(found),
        *_repeated(found.written),
        *_wrong_runs(found),
        *(f"{title} still runs" for title in found.running),
        *(f"{name} was left in the folder for temporary files" for name in found.left),
    ]


def _wrong_endings(found: Outcome, undisturbed: Outcome) -> Iterator[str]:
    for key in undisturbed.endings.keys() - found.endings.keys():
        yield f"{key} never began"
    for key in found.endings.keys() - undisturbed.endings.keys():
        yield f"{key} is none of the sweep's trials"
    for key, ending in found.endings.items():
        if ending != "complete":
            yield f"{key} did not end well: {ending}"


def _other_figures(found: Outcome, undisturbed: Outcome) -> Iterator[str]:
    for key in found.events.keys() & undisturbed.events.keys():
        ours, theirs = found.events[key], undisturbed.events[key]
        times = Counter(event[:2] for event in ours)
        expected = Counter(event[:2] for event in theirs)
        for epoch, kind in times.keys() | expected.keys():
            if times[epoch, kind] != expected[epoch, kind]:
                yield f"{key} has the event {kind} of epoch {epoch} {times[epoch, kind]} times"
        if times == expected:
            for mine, other in zip(ours, theirs, strict=True):
                if mine != other:
                    yield f"{key} has other figures: epoch {mine[0]}, {mine[1]}"
    if found.table != undisturbed.table:
        yield "the table differs"


def _unseen(found: Outcome) -> Iterator[str]:
    """What was trained and kept without being seen, by which the next function would be blind."""
    seen = set(found.written)
    listed = {key for key, what, _ in seen if what == LISTED}
    for key, events in found.events.items():
        epochs = [event[0] for event in events if event[1] == "train"]
        for epoch in epochs:
            for what in (TRAINED, KEPT):
                if (key, what, (epoch, float("inf"))) not in seen:
                    yield f"{key}: nobody saw that epoch {epoch} was {what}"
        if epochs and key not in listed:
            yield f"{key}: nobody saw Ray Train's list of its checkpoints"


def _repeated(written: Iterable[tuple[str, str, Position]]) -> Iterator[str]:
    """What was trained again although a later checkpoint was known."""
    last: dict[str, Position] = {}
    for key, what, position in written:
        known = last.get(key, (0, 0.0))
        if what == LISTED:
            last[key] = max(known, position)
        elif position <= known:
            yield f"{key} was trained again to {_words(position)} after its checkpoint of {_words(known)}"


def _words(position: Position) -> str:
    epoch, step = position
    return f"epoch {epoch}" if step == float("inf") else f"epoch {epoch}, step {step:.0f}"


def _wrong_runs(found: Outcome) -> Iterator[str]:
    times = Counter(key for key, _ in found.runs)
    for key in found.figures.keys() | times.keys():
        if times[key] != (key in found.figures):
            yield f"MLflow has {times[key]} runs of {key}"
    for key, run in found.runs:
        if run.status != "FINISHED":
            yield f"MLflow's run of {key} is {run.status}"
        expected = Counter(found.figures.get(key, {}))
        for figure in sorted((Counter(run.figures) - expected).keys()):
            yield f"MLflow's run of {key} has {figure} that the history does not have, or not so often"
        for figure in sorted((expected - Counter(run.figures)).keys()):
            yield f"MLflow's run of {key} lacks {figure}"


@dataclass
class Writings:
    """Follows what a sweep's trainings keep on S3, as a proxy in front of it sees it."""

    seen: list[tuple[str, str, Position]] = field(default_factory=list)

    def __call__(self, method: str, path: str, body: bytes) -> None:
        """Notes what the server has done."""
        found = _WRITTEN.fullmatch(path) if method == "PUT" else None
        if found is None:
            return
        key, folder, name = found.groups()
        if name.startswith("checkpoint_manager_snapshot"):
            listed = _CHECKPOINT.findall(body.decode(errors="replace"))
            self.seen += [(key, LISTED, max(map(_position, listed)))] if listed else []
        elif folder == "train" and name.endswith("/config.json"):
            self.seen.append((key, KEPT, _position(_CHECKPOINT.match(name).groups())))
        elif trained := _EPOCH.fullmatch(name):
            self.seen.append((key, TRAINED, (int(trained[1]), float("inf"))))


def _position(match: tuple[str, str | None]) -> Position:
    epoch, step = match
    return int(epoch), float(step or "inf")
