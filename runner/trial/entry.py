"""Defines the function that Ray Train runs in every data-parallel worker.

This module imports no torch: a trial's driver and Ray Train's controller import it without running the
function, and importing torch would take them seconds.
"""

from __future__ import annotations

from typing import Any

from runner.trial.task import WorkerTask


def train_worker(arguments: dict[str, Any]) -> None:
    """Trains as one worker; see `runner.trial.worker.work`."""
    from runner.trial.worker import work

    work(WorkerTask(**arguments))
