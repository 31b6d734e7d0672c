"""Wraps Ray's private parts that have no public counterpart: draining nodes, workers that do not answer.

No other file imports a private module of a library; a test checks this. Another test compares what is used
here with the release that is installed, and pyproject.toml allows no minor release of Ray that was not
tested.
"""

from __future__ import annotations

from ray._private.state import state
from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError, WorkerHealthCheckTimeoutError

NoAnswer = WorkerHealthCheckTimeoutError
"""Raised by Ray Train's controller when a worker did not answer in time."""


def is_draining(node: str) -> bool:
    """Says whether a node was told to drain: nothing new starts on it, and it will leave.

    `ray.train.get_preemption_info` covers only the nodes of a training's workers, not the driver's node.

    Args:
        node: Ray's id of it, hexadecimal.
    """
    return node in state.get_draining_nodes()


def unwrapped(fault: Exception) -> Exception:
    """Returns the cause of a worker's end, without the exception in which Ray Train wraps it."""
    return fault.health_check_failure if isinstance(fault, WorkerHealthCheckFailedError) else fault
