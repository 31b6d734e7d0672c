"""The summary of a sweep in MLflow: a run of its own that holds the table and the comparison."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from runner.compare.report import ANSWER
from runner.compare.table import Row, to_csv
from runner.tracking.logged_table import LoggedTable
from runner.tracking.reporter import Reporter, SweepIdentity


def log_summary(
    reporter: Reporter, sweep: SweepIdentity, table: Sequence[Row], files: Mapping[str, str | bytes]
) -> str | None:
    """Logs a sweep's table and comparison; returns the id of that run, None if MLflow is away.

    Args:
        reporter: of the sweep.
        sweep: what is told.
        table: one row per variant.
        files: the comparison, by file name.
    """
    rows = LoggedTable.from_csv(to_csv(table, sweep.metric))
    return reporter.summarise(str(files.get(ANSWER, sweep.question)), rows, _best(table, sweep), files)


def _best(table: Sequence[Row], sweep: SweepIdentity) -> dict[str, float]:
    """The best figure of any trial, by which the summary comes before them all."""
    values = [o.metrics[sweep.metric] for row in table for o in row.outcomes if sweep.metric in o.metrics]
    known = [value for value in values if not math.isnan(value)]
    best = max if sweep.mode == "max" else min
    return {sweep.metric: best(known)} if known else {}
