"""Figures of an evaluation: MMA curves, and the matches of a pair. Drawn without a display."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from PIL import Image, ImageDraw

from evaluation.examples import MatchExample
from evaluation.images import grey
from evaluation.match_lines import CORRECT_WITHIN, MAX_LINES, coloured, drawn
from evaluation.mma import THRESHOLDS

_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#555555", "#8c510a")
_STYLES = ("-", "--", ":", "-.")


def mma_curves(
    curves: Mapping[str, npt.NDArray[np.floating]],
    bands: Mapping[str, npt.NDArray[np.floating]] | None = None,
) -> Figure:
    """MMA against the threshold, one curve per name, the legend sorted by MMA@3.

    Args:
        curves: name -> 15 shares in [0, 1].
        bands: name -> (2, 15), the lower and the upper end of the intervals; a curve may have none.
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
        if bands and name in bands:
            colour = _COLOURS[index % len(_COLOURS)]
            axes.fill_between(THRESHOLDS, *bands[name], color=colour, alpha=0.13, linewidth=0)
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
    canvas[:height1, :width1] = grey(example.image1)[..., None]
    canvas[:height2, width1:] = grey(example.image2)[..., None]
    figure = _figure(width=12.0, height=12.0 * canvas.shape[0] / canvas.shape[1] + 0.4)
    axes = figure.add_subplot()
    axes.imshow(canvas)
    axes.set_axis_off()
    shift = np.array([width1, 0])
    for points in (example.keypoints1, example.keypoints2 + shift):
        axes.scatter(points[:, 0], points[:, 1], s=3, c="#56b4e9", linewidths=0, alpha=0.8)
    for lines, colour in _match_lines(example, shift):
        axes.add_collection(LineCollection(lines.tolist(), colors=colour, linewidths=0.7, alpha=0.7))
    axes.set_title(match_caption(example), fontsize="medium")
    return figure


def match_caption(example: MatchExample) -> str:
    """What a picture of matches shows, in words."""
    right = int((example.errors <= CORRECT_WITHIN).sum())
    total = len(example.matches)
    part = f", {MAX_LINES} drawn" if total > MAX_LINES else ""
    return (
        f"{example.sequence} 1 / {example.image}: {right} of {total} matches within {CORRECT_WITHIN} px"
        f" ({len(example.keypoints1)} and {len(example.keypoints2)} keypoints{part})"
    )


def match_thumbnail(example: MatchExample, width: int) -> Image.Image:
    """The same as `match_pictures` in a hundredth of its time, without a title, for a page with several.

    Args:
        example: what is drawn.
        width: pixels.
    """
    # Twice as large at first: halving it smooths the lines.
    scale = 2 * width / (example.image1.shape[1] + example.image2.shape[1])
    images = [_resized_grey(image, scale) for image in (example.image1, example.image2)]
    canvas = Image.new("RGB", (2 * width, max(image.height for image in images)), "white")
    canvas.paste(images[0], (0, 0))
    canvas.paste(images[1], (images[0].width, 0))
    pencil = ImageDraw.Draw(canvas)
    shift = np.array([example.image1.shape[1], 0])
    for x, y in np.concatenate([example.keypoints1, example.keypoints2 + shift]) * scale:
        pencil.rectangle((x - 1, y - 1, x + 1, y + 1), fill=_COLOURS[5])
    for lines, colour in _match_lines(example, shift):
        for (x1, y1), (x2, y2) in lines * scale:
            pencil.line((x1, y1, x2, y2), fill=colour, width=2)
    return canvas.resize((width, round(canvas.height / 2)), Image.Resampling.BOX)


def _resized_grey(image: npt.NDArray[np.uint8], scale: float) -> Image.Image:
    small = Image.fromarray(grey(image))
    return small.resize((round(small.width * scale), round(small.height * scale)), Image.Resampling.BILINEAR)


def _match_lines(
    example: MatchExample, shift: npt.NDArray[np.int64]
) -> list[tuple[npt.NDArray[np.floating], str]]:
    """The lines that are drawn, (K, 2, 2) as start and end, with their colours, in the order of drawing."""
    shown = drawn(len(example.matches))
    starts = example.keypoints1[example.matches[shown, 0]]
    ends = example.keypoints2[example.matches[shown, 1]] + shift
    lines = np.stack([starts, ends], axis=1)
    return [(lines[chosen], colour) for chosen, colour in coloured(example.errors[shown])]


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    return figure
