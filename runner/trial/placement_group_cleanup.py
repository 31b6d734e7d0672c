"""Removes the placement group of a training whose driver was killed; Ray would keep its CPUs reserved.

Ray frees a group when the job ends that asked for it. If the driver of a trial is killed, its workers die
with it, and their CPUs would stay reserved until the sweep ends: Ray Train frees them only where it reaches
the cluster's dashboard, and a local cluster has none. Each training therefore writes down the id of its
group. A training that is killed before its workers begin has not written it down yet.

`runner/cluster/resources.py` says which CPUs and GPUs a trial asks for.
"""

from __future__ import annotations

import logging
from typing import Any

from r2d2.storage.store import Store
from runner.record.attempt import Attempt
from runner.record.layout import is_reservation, reservation_name

log = logging.getLogger(__name__)


def note_reservation(trial: Store, attempt: Attempt | None) -> None:
    """Writes down the placement group of the calling worker's training."""
    from ray.util import get_current_placement_group

    group: Any = get_current_placement_group()
    if group is not None:
        trial.write(_file(attempt), group.id.hex().encode())


def is_reserved(trial: Store, attempt: Attempt | None) -> bool:
    """Says whether the workers of this attempt's training have begun: its group is written down then."""
    return trial.read(_file(attempt)) is not None


def free_reservations(trial: Store, attempt: Attempt | None) -> None:
    """Removes the groups of this attempt's and earlier attempts' trainings that still exist."""
    from ray import PlacementGroupID
    from ray.util.placement_group import PlacementGroup, remove_placement_group

    noted = [file.name for file in trial.files() if is_reservation(file.name)]
    for name in noted:
        held = trial.read(name) if name <= _file(attempt) else None
        if held is not None:
            # Ray is content if there is no such group any more.
            remove_placement_group(PlacementGroup(PlacementGroupID(bytes.fromhex(held.decode()))))
            trial.delete(name)


def leave_reservations(trial: Store, attempt: Attempt | None) -> None:
    """Does the same at the end of a training; logs a failure, since the training's outcome counts more."""
    try:
        free_reservations(trial, attempt)
    except Exception:
        log.warning("the placement group of the training in %s is not removed", trial.place, exc_info=True)


def _file(attempt: Attempt | None) -> str:
    return reservation_name(0 if attempt is None else attempt.number)
