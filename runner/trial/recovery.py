"""Decides what a trial does when its training stops before its end."""

from __future__ import annotations

import time
from collections.abc import Callable

import ray
import ray.train

from r2d2.storage.errors import DiskFull
from runner.cluster.ray_internals import NoAnswer, is_draining, unwrapped
from runner.record.attempt import HaltedError
from runner.record.history import TRAIN, History
from runner.record.incidents import HANGING, LOST, PREEMPTED, incidents, record_incident
from runner.trial.preemption import Preempted, this_node

# What says more of why a group stopped than that a connection was lost; the first kind says most.
_TELLING = (
    ValueError,
    Preempted,
    DiskFull,
    NoAnswer,
    ray.exceptions.RayActorError,
)


class NodeLeaves(Exception):  # noqa: N818 - it says what happened
    """Says that the node of a trial's driver is taken away: Tune starts the driver again on another one."""


def train_to_the_end(fit: Callable[[], object], history: History, max_restarts: int) -> None:
    """Trains to the last epoch, and restarts from the last checkpoint after a fault that may pass.

    It restarts after a lost or hanging worker, up to `max_restarts` times without an epoch trained in
    between, and after every preemption notice. It does not after too little memory, a full disk, or bad data
    or settings.

    Args:
        fit: trains; raises what Ray Train raises.
        history: of the trial; what happened is written down beside it.
        max_restarts: see above.

    Raises:
        RuntimeError: if it cannot go on, with the reason.
        NodeLeaves: if the node of this process is taken away.
        SupersededError: if a later attempt has taken the sweep over.
    """
    losses, trained = 0, _epochs(history)
    while True:
        started = time.time()
        try:
            fit()
            return
        except ray.train.WorkerGroupError as error:
            fault = main_fault(list(error.worker_failures.values()))
        except ray.train.ControllerError as error:
            if not isinstance(error.controller_failure, ray.exceptions.RayActorError):
                raise
            # A worker whose whole process was stopped does not receive the request to end.
            fault = error.controller_failure
        except ray.exceptions.RayActorError as error:
            # Ray Train's controller was lost.
            fault = error
        if _epochs(history) > trained:
            losses, trained = 0, _epochs(history)
        losses += _counts(fault)
        # The same data, settings and machine would give these again.
        if losses > max_restarts or isinstance(fault, ValueError | DiskFull):
            asked = isinstance(fault, HaltedError)
            raise RuntimeError(str(fault) if asked else f"training failed: {fault}") from fault
        _write_down(history, fault, started)
        if isinstance(fault, Preempted) and is_draining(this_node()):
            raise NodeLeaves(str(fault)) from fault


def main_fault(faults: list[Exception]) -> Exception:
    """Finds why a group of workers stopped: when one worker fails, the others fail with connection errors."""
    bare = [unwrapped(fault) for fault in faults]
    for kind in _TELLING:
        for fault in bare:
            if isinstance(fault, kind):
                return fault
    return bare[0]


def _counts(fault: Exception) -> bool:
    """Says whether a fault counts towards `max_restarts`."""
    return not isinstance(fault, ValueError | Preempted) and not getattr(fault, "preempted", False)


def _write_down(history: History, fault: Exception, started: float) -> None:
    if isinstance(fault, Preempted):
        record_incident(history, PREEMPTED, f"{fault}; the trial goes on from there")
    elif isinstance(fault, NoAnswer):
        text = "a worker gave no answer for too long; all workers start again from the last checkpoint"
        record_incident(history, HANGING, text)
    elif not any(i.kind == HANGING and i.time >= started for i in incidents(history)):
        # A hanging worker has written it down itself.
        reason = " ".join(str(fault).split())[:300]
        text = f"a worker was lost; the trial goes on from its last checkpoint ({reason})"
        record_incident(history, LOST, text)


def _epochs(history: History) -> int:
    return max((r.epoch for r in history.records() if r.kind == TRAIN), default=0)
