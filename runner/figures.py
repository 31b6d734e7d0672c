"""Pictures of a sweep."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from evaluation.figures import mma_curves
from r2d2.atomic import atomic_file
from runner.reporting import mean_curve
from runner.stored import StoredSweep
from runner.table import Row


def save_curves(stored: StoredSweep, table: Sequence[Row], role: str, path: Path) -> Path:
    """Writes a PNG with the MMA curve of every variant on the benchmark `role`; returns its path."""
    histories = {trial.key: stored.history(trial) for trial in stored.trials()}
    curves = {row.variant: curve for row in table if (curve := mean_curve(row, histories, role)) is not None}
    with atomic_file(path) as file:
        mma_curves(curves).savefig(file, format="png")
    return path
