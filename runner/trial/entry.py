"""The door through which Ray Train enters a data-parallel worker.

Free of torch: the driver of a trial and Ray Train's controller hold the door without going through it, and
importing torch would take them seconds.
"""

from __future__ import annotations

from typing import Any

from runner.trial.task import WorkerTask


def train_worker(arguments: dict[str, Any]) -> None:
    """The function that Ray Train runs in every worker; see `runner.trial.worker.work`."""
    from runner.trial.worker import work

    work(WorkerTask(**arguments))
