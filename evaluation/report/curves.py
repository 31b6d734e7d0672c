"""Draws MMA against the threshold: the lines of a chart, and a chart as an SVG file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from evaluation.evaluation import OVERALL
from evaluation.metrics.mma import CORRECT_WITHIN, THRESHOLDS
from evaluation.report import svg
from evaluation.report.report import Report


def looks_of(report: Report) -> dict[str, int]:
    """Returns the number of the colour and dashes of each row, which follows from the names."""
    return {name: number for number, name in enumerate(sorted(entry.name for entry in report.entries))}


def mma_lines(report: Report, split: str) -> list[svg.Line]:
    """Returns the curve of every scored row in one split, with its intervals."""
    looks, lines = looks_of(report), []
    for entry in report.scored:
        rows = [row for row in report.curves if (row.variant, row.split) == (entry.name, split)]
        band = [(row.low, row.high) for row in rows if row.low is not None and row.high is not None]
        points = [(threshold, row.mean) for threshold, row in zip(THRESHOLDS, rows, strict=True)]
        lines.append(svg.Line(entry.name, looks[entry.name], points, band))
    return lines


def curves_picture(report: Report) -> str:
    """Draws the MMA curves of all scored rows with their intervals, as an SVG file."""
    return _picture(mma_lines(report, OVERALL))


def mma_curves(curves: Mapping[str, npt.NDArray[np.floating]]) -> str:
    """Draws MMA against the threshold as an SVG file, one curve per name, the legend sorted by MMA@3.

    Args:
        curves: name -> (15,), shares in [0, 1]; at least one.
    """
    return _picture(
        [
            svg.Line(name, look, list(zip(THRESHOLDS, shares, strict=True)))
            for look, (name, shares) in enumerate(curves.items())
        ]
    )


def _picture(lines: Sequence[svg.Line]) -> str:
    """The curves from 0 to 1, beside them their names, the highest MMA@3 first."""
    ranked = sorted(lines, key=lambda line: -line.points[CORRECT_WITHIN - 1][1])
    legend = [(line, f"{line.points[CORRECT_WITHIN - 1][1]:.3f}  {line.name}") for line in ranked]
    axes = ("threshold (pixels)", "mean matching accuracy")
    chart = svg.line_chart(lines, *axes, marked_x=CORRECT_WITHIN, shown=(0, 1))
    return svg.picture(chart, f"MMA@{CORRECT_WITHIN}", legend)
