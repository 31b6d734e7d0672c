"""Syncing: tells MLflow what it missed of a sweep, from the sweep's folder alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from r2d2.storage.store import Store
from runner.compare.report import comparison_files
from runner.compare.stored import table_of
from runner.record.lease import hold
from runner.record.sweep import INTERRUPTED, StoredSweep, stored_ending
from runner.sweep.summary import log_summary
from runner.tracking.experiments import Tracker
from runner.tracking.note import TrackingNote
from runner.tracking.reporter import Reporter, SweepIdentity


@dataclass(frozen=True)
class SyncResult:
    """What came of it.

    Attributes:
        trials: how many the sweep's folder holds.
        behind: why MLflow was not told of trials completely, by their keys.
        summary_run: id of the MLflow run that holds the table; None of a sweep that has not ended.
    """

    trials: int
    behind: dict[str, str]
    summary_run: str | None


def sync_sweep(sweep: Store, tracker: Tracker, say: Callable[[str], None]) -> SyncResult:
    """Tells MLflow all that it does not have of a sweep that nobody runs.

    Raises:
        ValueError: if there is no such sweep, or a driver runs it, which tells MLflow itself.
    """
    stored = StoredSweep(sweep)
    definition, note = stored.definition, TrackingNote.load(sweep)
    if note is None:
        raise ValueError(
            f"{sweep.place} was written by an earlier version of this program, which did not note what "
            f"MLflow is told of photographs; r2d2 sweep {definition.name} tells MLflow what it missed"
        )
    identity = SweepIdentity(
        definition.name, definition.metric, definition.mode, stored.question, note.datasets
    )
    with hold(sweep) as lease:
        reporter = Reporter(tracker, identity, sweep.place, say, lease.attempt)
        try:
            reporter.open()
            trials = stored.trials()
            endings = {trial: stored_ending(trial, stored.history(trial), identity.roles) for trial in trials}
            for trial, ending in endings.items():
                reporter.finish(trial, stored.history(trial), ending)
            behind, summary = reporter.settle(), None
            known = {trial.key for trial in trials}
            ended = known >= set(definition.trials) and all(e.reason != INTERRUPTED for e in endings.values())
            if ended and not behind:
                table = table_of(stored, definition.metric, definition.mode)
                files = comparison_files(stored, table, stored.question)
                summary = log_summary(reporter, identity, table, files)
        finally:
            reporter.close()
    return SyncResult(len(trials), behind, summary)
