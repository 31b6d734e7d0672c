"""Halt: ends Tune's run when the sweep was asked to stop or another driver has taken it over."""

from __future__ import annotations

from typing import Any

from ray import tune

from runner.lease import Lease


class Halt(tune.Stopper):
    """Asked by Tune after each of its steps."""

    def __init__(self, lease: Lease) -> None:
        self._lease = lease

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:  # noqa: ARG002  (Tune's signature)
        """No single trial is stopped."""
        return False

    def stop_all(self) -> bool:
        """Whether to end all trials where they are; their last checkpoints stay."""
        return self._lease.must_stop

    def __getstate__(self) -> dict[str, Any]:
        """Tune saves its stoppers; this one lives and dies with the driver."""
        return {}
