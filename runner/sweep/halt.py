"""Halt: ends Tune's run when the sweep was asked to stop or another driver has taken it over."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from typing import Any

from ray import tune

from runner.record.lease import Lease

# A training asks every few seconds, and leaves a checkpoint; one that has not begun yet is not waited for.
GRACE_S = 25.0
_LOOK_S = 0.2


class Halt(tune.Stopper):
    """Asked by Tune after each of its steps."""

    def __init__(self, lease: Lease, going: Callable[[], Collection[str]]) -> None:
        """A halt.

        Args:
            lease: the driver's.
            going: the trials that run and have not stopped yet.
        """
        self._lease, self._going = lease, going

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:  # noqa: ARG002  (Tune's signature)
        """No single trial is stopped."""
        return False

    def stop_all(self) -> bool:
        """Whether to end all trials where they are; after a request their checkpoints are waited for.

        While it waits, Tune starts no other trial.
        """
        if self._lease.must_stop and self._lease.stop_asked:
            until = time.monotonic() + GRACE_S
            while self._going() and time.monotonic() < until:
                time.sleep(_LOOK_S)
        return self._lease.must_stop

    def __getstate__(self) -> dict[str, Any]:
        """Tune saves its stoppers; this one lives and dies with the driver."""
        return {}
