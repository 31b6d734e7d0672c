"""Turn: has Ray Train's controller wait for the trial's slot when all but its workers is up."""

from __future__ import annotations

from typing import Any

from ray.train.v2._internal.execution.callback import WorkerGroupCallback
from ray.train.v2._internal.execution.worker_group import WorkerGroupContext

from runner.trial.slots import take_slot


class Turn(WorkerGroupCallback):
    """Takes the slot before workers are asked for, the first time and whenever they are started again."""

    def __init__(self, slots: Any | None, key: str) -> None:
        self._slots, self._key = slots, key

    def before_worker_group_start(self, worker_group_context: WorkerGroupContext) -> None:  # noqa: ARG002
        """Called by Ray Train in the controller's process, which has nothing else to do."""
        take_slot(self._slots, self._key)
