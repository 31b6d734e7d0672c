"""Logs what MLflow missed of a sweep, from the sweep's folder alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from evaluation.report.report import Report
from evaluation.report.text import to_rows
from r2d2.storage.store import Store
from runner.compare.report import ANSWER, final_report, report_files
from runner.compare.rounds import rounds_of
from runner.record.history import TRAIN
from runner.record.lease import hold
from runner.record.sweep import INTERRUPTED, StoredSweep, stored_ending
from runner.tracking.experiments import Tracker
from runner.tracking.note import SweepIdentity, TrackingNote
from runner.tracking.reporter import Reporter
from runner.tracking.tables import LoggedTable


@dataclass(frozen=True)
class SyncResult:
    """A SyncResult says what was logged.

    Attributes:
        trials: how many the sweep's folder holds.
        behind: why MLflow does not have trials completely, by their keys.
        summary_run: id of the MLflow run that holds the table; None of a sweep that has not ended.
    """

    trials: int
    behind: dict[str, str]
    summary_run: str | None


def sync_sweep(sweep: Store, tracker: Tracker, say: Callable[[str], None]) -> SyncResult:
    """Logs all that MLflow does not have of a sweep that nobody runs.

    Raises:
        ValueError: if there is no such sweep, or a driver runs it, which logs it itself.
    """
    stored = StoredSweep(sweep)
    definition, note = stored.definition, TrackingNote.load(sweep)
    if note is None:
        raise ValueError(
            f"{sweep.place} was written by an earlier version of this program, which did not note what "
            f"photographs MLflow names; r2d2 sweep {definition.name} logs what MLflow missed"
        )
    identity = SweepIdentity.of(definition, stored.question, note)
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
            rounds = rounds_of(stored)
            wanted = {trial.key for trial in rounds.due} if rounds is not None else set(definition.trials)
            ended = known >= wanted and all(e.reason != INTERRUPTED for e in endings.values())
            report = final_report(stored) if ended and not behind else None
            if report is not None:
                summary = log_summary(reporter, identity, report, report_files(report))
        finally:
            reporter.close()
    return SyncResult(len(trials), behind, summary)


def log_summary(
    reporter: Reporter, sweep: SweepIdentity, report: Report, files: Mapping[str, str | bytes]
) -> str | None:
    """Logs a sweep's table and comparison; returns the id of that run, None if MLflow is away.

    Args:
        reporter: of the sweep.
        sweep: what is logged.
        report: the comparison of its rows.
        files: the same, by file name.
    """
    rows = to_rows(report)
    table = LoggedTable(tuple(rows[0]), tuple(tuple(row.values()) for row in rows))
    role, _, name = sweep.metric.rpartition("/")
    key = sweep.metric if role == TRAIN else name
    values = [one[key] for entry in report.variants for one in entry.by_network if key in one]
    # The best figure of any trial, by which the summary comes before them all.
    best = max if sweep.mode == "max" else min
    known = [value for value in values if not math.isnan(value)]
    highest = {sweep.metric: best(known)} if known else {}
    return reporter.summarise(str(files[ANSWER]), table, highest, files)
