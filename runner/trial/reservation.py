"""What a training holds of the cluster: its placement group, written down so that it can be freed.

A group goes with the job that asked for it. If the driver of a trial is killed, its workers die with it, and
their processors would stay taken until the sweep ends: Ray Train frees them only where it reaches the
cluster's dashboard, which a cluster of one's own has not. What is killed before its workers have begun was
not written down yet.
"""

from __future__ import annotations

import logging
from typing import Any

from r2d2.storage.store import Store
from runner.record.attempt import Attempt

# In a trial's folder while it trains: a file for each attempt.
RESERVATION = "placement_group_"

log = logging.getLogger(__name__)


def note_reservation(trial: Store, attempt: Attempt | None) -> None:
    """Writes down what the calling worker's training holds."""
    from ray.util import get_current_placement_group

    group: Any = get_current_placement_group()
    if group is not None:
        trial.write(_file(attempt), group.id.hex().encode())


def is_reserved(trial: Store, attempt: Attempt | None) -> bool:
    """Whether a training of this attempt has written down what it holds: its workers have begun."""
    return trial.read(_file(attempt)) is not None


def free_reservations(trial: Store, attempt: Attempt | None) -> None:
    """Frees what trainings of this attempt and of earlier ones held, if they still do."""
    from ray import PlacementGroupID
    from ray.util.placement_group import PlacementGroup, remove_placement_group

    noted = [file.name for file in trial.files() if file.name.startswith(RESERVATION)]
    for name in noted:
        held = trial.read(name) if name <= _file(attempt) else None
        if held is not None:
            # Ray is content if there is no such group any more.
            remove_placement_group(PlacementGroup(PlacementGroupID(bytes.fromhex(held.decode()))))
            trial.delete(name)


def leave_reservations(trial: Store, attempt: Attempt | None) -> None:
    """The same at the end of a training, whose outcome counts more than what is left."""
    try:
        free_reservations(trial, attempt)
    except Exception:
        log.warning("what the training in %s held is not freed", trial.place, exc_info=True)


def _file(attempt: Attempt | None) -> str:
    return f"{RESERVATION}{0 if attempt is None else attempt.number:06d}"
