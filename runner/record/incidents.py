"""Records what happened to a trial, and how it went on, beside its history."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from functools import partial

from r2d2.formats.printable import printable
from r2d2.formats.stored_json import parse_json, typed
from runner.record.history import History, put_json
from runner.record.layout import INCIDENT, incident_name

LOST, HANGING, PREEMPTED, RESIZED = "lost", "hanging", "preempted", "resized"
DAMAGED, ASKED_TO_STOP = "damaged", "stopped"

# In the last report of a trial that failed: to Tune it ends like any other.
FAILED = "failed"

# MLflow's tag of the run.
TAG = "r2d2.incidents"


@dataclass(frozen=True)
class Incident:
    """An Incident is one thing that happened to a trial.

    Attributes:
        kind: a worker was lost (LOST), gave no sign of life (HANGING) or was told to leave (PREEMPTED),
            a file of Ray's was damaged (DAMAGED), the number of workers differs from the configured
            (RESIZED), or the sweep was asked to stop (ASKED_TO_STOP).
        text: what happened and how the trial went on, a sentence.
        time: seconds since 1970.
    """

    kind: str
    text: str
    time: float


def record_incident(history: History, kind: str, text: str) -> None:
    """Writes down an incident that has just happened.

    Raises:
        SupersededError: if a later attempt has taken the sweep over.
    """
    history.require_current()
    incident = Incident(kind, printable(text), time.time())
    put_json(history.store, incident_name(int(incident.time * 1e6), kind), asdict(incident))


def incidents(history: History) -> list[Incident]:
    """Returns all incidents of a trial, in order."""
    files = [file for file in history.store.files() if file.name.startswith(INCIDENT)]
    contents = history.store.read_all(files)
    return [
        parse_json(content, f"{history.store.place}/{file.name}", partial(typed, Incident))
        for file, content in zip(files, contents, strict=True)
        if content is not None
    ]
