"""What a training holds of the cluster: its placement group, written down so that it can be freed.

A group goes with the job that asked for it. If the driver of a trial is killed, its workers die with it, and
their processors would stay taken until the sweep ends: Ray Train frees them only where it reaches the
cluster's dashboard, which a cluster of one's own has not.
"""

from __future__ import annotations

from typing import Any

from r2d2.storage.depot import Depot

# In a trial's folder while it trains.
RESERVATION = "placement_group"


def note_reservation(trial: Depot) -> None:
    """Writes down what the calling worker's training holds."""
    from ray.util import get_current_placement_group

    group: Any = get_current_placement_group()
    if group is not None:
        trial.write(RESERVATION, group.id.hex().encode())


def free_reservation(trial: Depot) -> None:
    """Frees what a training of the trial held, if it still does."""
    found = trial.read(RESERVATION)
    if found is None:
        return
    from ray._raylet import PlacementGroupID
    from ray.util.placement_group import PlacementGroup, remove_placement_group

    # Ray is content if there is no such group any more.
    remove_placement_group(PlacementGroup(PlacementGroupID(bytes.fromhex(found.decode()))))
    trial.delete(RESERVATION)
