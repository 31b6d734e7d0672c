"""Pictures of a sweep."""

from __future__ import annotations

from pathlib import Path

from evaluation.report import Report
from r2d2.atomic import atomic_file
from runner.comparing import curves_picture


def save_curves(report: Report, path: Path) -> Path:
    """Writes a PNG with the MMA curve of every variant; returns its path."""
    with atomic_file(path) as file:
        file.write(curves_picture(report))
    return path
