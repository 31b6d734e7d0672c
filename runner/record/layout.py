"""Names every file of a sweep and of its trials; all that reads or writes one takes its name from here.

A sweep lies in `sweeps/NAME` of the home, which is a folder or a prefix of S3; `runner/settings.py` names
what else a home holds, but for the looks at test benchmarks (`looks.py`). ARCHITECTURE.md shows the files as
a tree.
"""

from __future__ import annotations

import math
import re

from r2d2.config import CONFIG_FILE

# In the place of a sweep: its definition, the command that started it, a copy of its file if that is no part
# of search_spaces/, what it asks, and what MLflow names of it.
DEFINITION, STARTED, OWN_SWEEP = "sweep.json", "started.json", "own_sweep.py"
QUESTION, MLFLOW_NOTE = "question.txt", "mlflow.json"
# The drivers' claims, and requests to stop.
ATTEMPTS = "attempts"
# By the number of an attempt, what it computed with; SHA-256 of each file of the training data.
_PROVENANCE, PROVENANCE_FILES = "provenance", "provenance/files.json"
# One place per trial, by its key.
TRIALS = "trials"

# In the place of a trial: its complete TrainConfig, how far its epoch is, its events, its checkpoints, the
# processors that it was computed on.
TRIAL_CONFIG, PROGRESS, HISTORY, TRAIN_RUN = CONFIG_FILE, "progress.json", "history", "train"
PROCESSORS = "processors.json"
_RESERVATION = "placement_group_"

# Among the events: the mark that the scheduler stopped the trial, so that nobody continues it, and the reason
# of its last failure.
STOPPED_EARLY, FAILURE = "stopped.json", "failed.json"
INCIDENT = "incident_"
EVENT = re.compile(r"epoch_(\d+)\.([a-z0-9_]+)\.json")

# Among the checkpoints: Ray Train's list of those that it keeps. In a checkpoint: its header, and within an
# epoch the reports of the steps that are done. `r2d2/checkpoint.py` names its other files.
SNAPSHOT, HEADER, PARTIAL_EPOCH = "checkpoint_manager_snapshot.json", CONFIG_FILE, "partial_epoch.json"
_CHECKPOINT = re.compile(r"checkpoint_(\d+)(?:_step_(\d+))?")

_CLAIM = re.compile(r"(\d+)\.json")


def claim_name(attempt: int) -> str:
    """Names the file that claims the number of an attempt and is renewed while its driver lives."""
    return f"{ATTEMPTS}/{attempt:06d}.json"


def stop_name(attempt: int) -> str:
    """Names the file that asks an attempt to stop."""
    return f"{ATTEMPTS}/{attempt:06d}.stop"


def attempt_of(claim: str) -> int | None:
    """Returns the number of the attempt that a file of `ATTEMPTS` claims; None if it claims none."""
    found = _CLAIM.fullmatch(claim.rpartition("/")[2])
    return None if found is None else int(found[1])


def provenance_name(attempt: int) -> str:
    """Names the file that says what an attempt computed with."""
    return f"{_PROVENANCE}/{attempt:06d}.json"


def reservation_name(attempt: int) -> str:
    """Names the file of a trial that holds the id of its placement group while an attempt trains it."""
    return f"{_RESERVATION}{attempt:06d}"


def is_reservation(name: str) -> bool:
    """Says whether a file of a trial is one of `reservation_name`."""
    return name.startswith(_RESERVATION)


def event_name(epoch: int, kind: str) -> str:
    """Names the file of an event."""
    return f"epoch_{epoch:03d}.{kind}.json"


def table_name(epoch: int, role: str) -> str:
    """Names the complete table of a score, beside its event."""
    return f"table_{epoch:03d}.{role}.json"


def beside_table(table: str, what: str) -> str:
    """Names the archive, `examples` or `maps`, that belongs to the table of a score."""
    return table.replace("table_", f"{what}_").removesuffix(".json") + ".npz"


def incident_name(microseconds: int, kind: str) -> str:
    """Names the file of an incident by its time: several workers may write at once."""
    return f"{INCIDENT}{microseconds:017d}.{kind}.json"


def checkpoint_name(epoch: int, step: int | None = None) -> str:
    """Names the place of a checkpoint below `TRAIN_RUN`: after an epoch, or within it after a step."""
    return f"checkpoint_{epoch:03d}" + ("" if step is None else f"_step_{step:06d}")


def checkpoint_position(name: str) -> tuple[int, float] | None:
    """Returns epoch and step of a checkpoint's name, the step infinite at the end; None of another name."""
    found = _CHECKPOINT.fullmatch(name)
    return None if found is None else (int(found[1]), float(found[2] or math.inf))
