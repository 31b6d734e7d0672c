"""MMA against the threshold, as a figure of its own."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from evaluation.metrics.mma import THRESHOLDS
from evaluation.pictures.matches import CORRECT_WITHIN
from evaluation.report import svg


def mma_curves(
    curves: Mapping[str, npt.NDArray[np.floating]],
    bands: Mapping[str, npt.NDArray[np.floating]] | None = None,
) -> str:
    """Draws MMA against the threshold as an SVG file, one curve per name, the legend sorted by MMA@3.

    Args:
        curves: name -> (15,), shares in [0, 1]; at least one name.
        bands: name -> (2, 15), the lower and the upper end of the intervals; a curve may have none.
    """
    lines = [
        svg.Line(name, look, list(zip(THRESHOLDS, shares, strict=True)), _band(name, bands or {}))
        for look, (name, shares) in enumerate(curves.items())
    ]
    ranked = sorted(lines, key=lambda line: -line.points[CORRECT_WITHIN - 1][1])
    legend = [(line.look, f"{line.points[CORRECT_WITHIN - 1][1]:.3f}  {line.name}") for line in ranked]
    axes = ("threshold (pixels)", "mean matching accuracy")
    chart = svg.line_chart(lines, *axes, marked_x=CORRECT_WITHIN, shown=(0, 1))
    return svg.picture(chart, f"MMA@{CORRECT_WITHIN}", legend)


def _band(name: str, bands: Mapping[str, npt.NDArray[np.floating]]) -> list[tuple[float, float]]:
    return list(zip(*bands[name], strict=True)) if name in bands else []
