"""Figures of an evaluation: MMA curves, and the matches of a pair. Drawn without a display."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from evaluation.examples import MatchExample
from evaluation.mma import THRESHOLDS

# Told apart by people who do not tell red from green: Okabe and Ito's bluish green and vermilion.
CORRECT, WRONG = "#009e73", "#d55e00"

# A match is called correct up to this error, pixels: MMA@3 is the field's headline.
CORRECT_WITHIN = 3

# More lines than these hide the images.
MAX_LINES = 200

_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#555555", "#8c510a")
_STYLES = ("-", "--", ":", "-.")


def mma_curves(curves: Mapping[str, npt.NDArray[np.floating]]) -> Figure:
    """MMA against the threshold, one curve per name, the legend sorted by MMA@3.

    Args:
        curves: name -> 15 shares in [0, 1].
    """
    figure = _figure(width=9.0, height=5.0)
    axes = figure.add_subplot()
    ranked = sorted(curves.items(), key=lambda item: -item[1][CORRECT_WITHIN - 1])
    colours = {name: index for index, name in enumerate(curves)}
    for name, shares in ranked:
        index = colours[name]
        axes.plot(
            THRESHOLDS,
            shares,
            color=_COLOURS[index % len(_COLOURS)],
            linestyle=_STYLES[index // len(_COLOURS) % len(_STYLES)],
            label=f"{shares[CORRECT_WITHIN - 1]:.3f}  {name}",
        )
    axes.axvline(CORRECT_WITHIN, color="0.8", linewidth=1, zorder=0)
    axes.set(
        xlim=(1, THRESHOLDS[-1]), ylim=(0, 1), xlabel="threshold (pixels)", ylabel="mean matching accuracy"
    )
    axes.set_xticks(THRESHOLDS)
    axes.grid(color="0.93")
    axes.spines[["top", "right"]].set_visible(False)
    if curves:
        figure.legend(
            loc="outside right upper", title="MMA@3", frameon=False, fontsize="small", alignment="left"
        )
    return figure


def match_pictures(example: MatchExample) -> Figure:
    """Both images side by side with their keypoints and, drawn between them, the matches.

    Green: the error is at most 3 pixels; red: it is larger. Of many matches an evenly drawn part is shown.
    """
    (height1, width1), (height2, width2) = example.image1.shape[:2], example.image2.shape[:2]
    canvas = np.full((max(height1, height2), width1 + width2, 3), 255, dtype=np.uint8)
    # Grey, so that the colours are those of keypoints and matches.
    canvas[:height1, :width1] = _grey(example.image1)
    canvas[:height2, width1:] = _grey(example.image2)
    figure = _figure(width=12.0, height=12.0 * canvas.shape[0] / canvas.shape[1] + 0.4)
    axes = figure.add_subplot()
    axes.imshow(canvas)
    axes.set_axis_off()
    shift = np.array([width1, 0])
    for points in (example.keypoints1, example.keypoints2 + shift):
        axes.scatter(points[:, 0], points[:, 1], s=3, c="#56b4e9", linewidths=0, alpha=0.8)
    drawn = _draw_matches(axes, example, shift)
    right = int((example.errors <= CORRECT_WITHIN).sum())
    total = len(example.matches)
    part = f", {drawn} drawn" if drawn < total else ""
    axes.set_title(
        f"{example.sequence} 1 / {example.image}: {right} of {total} matches within {CORRECT_WITHIN} px"
        f" ({len(example.keypoints1)} and {len(example.keypoints2)} keypoints{part})",
        fontsize="medium",
    )
    return figure


def _grey(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The image without colour, (H, W, 1)."""
    grey: npt.NDArray[np.uint8] = image.mean(axis=2, keepdims=True).astype(np.uint8)
    return grey


def _draw_matches(axes: Axes, example: MatchExample, shift: npt.NDArray[np.int64]) -> int:
    """Draws the matches as lines, the wrong ones first so that they hide no correct one; returns how many."""
    total = len(example.matches)
    shown = np.linspace(0, total - 1, min(total, MAX_LINES)).astype(np.int64)
    starts = example.keypoints1[example.matches[shown, 0]]
    ends = example.keypoints2[example.matches[shown, 1]] + shift
    lines = np.stack([starts, ends], axis=1)
    correct = example.errors[shown] <= CORRECT_WITHIN
    for chosen, colour in ((~correct, WRONG), (correct, CORRECT)):
        axes.add_collection(LineCollection(lines[chosen].tolist(), colors=colour, linewidths=0.7, alpha=0.7))
    return len(shown)


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    return figure
