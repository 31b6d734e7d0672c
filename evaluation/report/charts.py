"""Makes charts of a report as inline SVG: they follow the page's width, text, and light or dark colours.

Colours are classes `c0` to `c7` of the page's style sheet; further lines differ by dashes. The
elements stand in `template/charts.html`; here is where they lie.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from evaluation.evaluation import OVERALL
from evaluation.metrics.mma import CORRECT_WITHIN, THRESHOLDS
from evaluation.report.report import Report

COLOURS = 8
_DASHES = ("", "6 4", "2 3", "8 3 2 3")

_WIDTH, _HEIGHT = 440, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 10, 12, 42
_BAR_WIDTH, _BAR_HEIGHT, _BAR_MARGIN = 260, 24, 16

Point = tuple[float, float]


@dataclass(frozen=True)
class _Scale:
    """Maps values between two limits to pixels between two ends."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def nearest(self, value: float) -> float:
        """The place of a value, or of the limit beyond which it lies."""
        return self(max(self.low, min(self.high, value)))


@dataclass(frozen=True)
class Line:
    """A Line is one line of a chart.

    Attributes:
        name: shown when the pointer rests on it.
        look: number of its colour and dashes.
        points: x and y, by x.
        band: the lower and the upper end at each point; empty: none.
        thin: one seed of several.
    """

    name: str
    look: int
    points: Sequence[Point] = ()
    band: Sequence[tuple[float, float]] = ()
    thin: bool = False

    @property
    def colour(self) -> int:
        """Returns the number of its colour."""
        return self.look % COLOURS

    @property
    def dashes(self) -> str:
        """Returns the lengths of its dashes and gaps, pixels; empty for a solid line."""
        return _DASHES[self.look // COLOURS % len(_DASHES)]

    def places(self, x: _Scale, y: _Scale) -> str:
        """Returns its points in pixels, as SVG writes them."""
        return _places(self.points, x, y)

    def outline(self, x: _Scale, y: _Scale) -> str:
        """Returns its band in pixels, around from the lower end of the first point."""
        both = list(zip(self.points, self.band, strict=True))
        lower = [(point[0], low) for point, (low, _) in both]
        upper = [(point[0], high) for point, (_, high) in both]
        return _places([*lower, *reversed(upper)], x, y)


def line_chart(
    lines: Sequence[Line],
    x_label: str,
    y_label: str,
    marked_x: float | None = None,
    shown: tuple[float, ...] = (),
) -> Markup:
    """Draws lines over a grid whose limits follow the values, bands included.

    Args:
        lines: at least one, each with at least one point.
        x_label: what the horizontal axis shows.
        y_label: what the vertical axis shows.
        marked_x: where a vertical line stands.
        shown: what the vertical axis reaches to in any case.
    """
    xs = [x for line in lines for x, _ in line.points]
    ys = [y for line in lines for _, y in line.points] + [y for line in lines for b in line.band for y in b]
    ys += shown
    x_ticks, y_ticks = ticks(min(xs), max(xs), whole=True), ticks(min(ys), max(ys))
    x_low, x_high = (min(xs), max(xs)) if min(xs) < max(xs) else (min(xs) - 1, max(xs) + 1)
    x = _Scale(x_low, x_high, _LEFT, _WIDTH - _RIGHT)
    y = _Scale(y_ticks[0], y_ticks[-1], _HEIGHT - _BOTTOM, _TOP)
    x_ticks = [tick for tick in x_ticks if x_low <= tick <= x_high]
    return _draw("line_chart", lines, x, y, x_ticks, y_ticks, x_label, y_label, marked_x, _WIDTH, _HEIGHT)


def interval_bar(value: float, low: float | None, high: float | None, limit: float, look: str) -> Markup:
    """Draws a difference with its interval on an axis from -limit to limit; an arrow if it lies beyond.

    Args:
        value: the difference.
        low: the lower end of its interval; None without one.
        high: the upper end.
        limit: above 0.
        look: the class of its colour.
    """
    return _draw("interval_bar", value, low, high, _bar_scale(limit), look, _BAR_WIDTH, _BAR_HEIGHT)


def bar_axis(limit: float) -> Markup:
    """Draws the axis below `interval_bar`s of the same limit."""
    shown = [tick for tick in ticks(-limit, limit, count=4) if abs(tick) <= limit * 1.001]
    return _draw("bar_axis", _bar_scale(limit), shown, _BAR_WIDTH, _BAR_HEIGHT)


def swatch(look: int) -> Markup:
    """Draws a piece of a line, for a legend."""
    return _draw("swatch", Line("", look))


def ticks(low: float, high: float, count: int = 5, whole: bool = False) -> list[float]:
    """Returns about `count` round numbers that enclose the values from low to high.

    Args:
        low: at most `high`.
        high: at least `low`.
        count: how many parts at most.
        whole: only whole numbers.
    """
    span = high - low if high > low else abs(high) or 1.0
    power = 10.0 ** math.floor(math.log10(span / count))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor * count >= span * 0.999)
    step = max(1.0, float(round(step))) if whole else step
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(step * index, 12) for index in range(first, max(last, first + 1) + 1)]


@functools.cache
def templates() -> Environment:
    """Returns the page's templates; every text that they are given is escaped."""
    # trim_blocks: the page's source is not full of the empty lines of its template.
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "template"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"px": "{:.1f}".format, "whole": "{:.0f}".format}
    return environment


def _draw(name: str, *values: object) -> Markup:
    """What a macro of the charts' template writes."""
    drawn: Markup = getattr(templates().get_template("charts.html").module, name)(*values)
    return drawn.strip()


def _places(points: Sequence[Point], x: _Scale, y: _Scale) -> str:
    return " ".join(f"{x(one):.1f},{y(other):.1f}" for one, other in points)


def _bar_scale(limit: float) -> _Scale:
    return _Scale(-limit, limit, _BAR_MARGIN, _BAR_WIDTH - _BAR_MARGIN)


def looks_of(report: Report) -> dict[str, int]:
    """Returns the number of the colour and dashes of each row, which follows from the names."""
    return {name: number for number, name in enumerate(sorted(variant.name for variant in report.variants))}


def mma_lines(report: Report, split: str) -> list[Line]:
    """Returns the curve of every scored row in one split, with its intervals."""
    looks, lines = looks_of(report), []
    for variant in report.scored:
        rows = [row for row in report.curves if (row.variant, row.split) == (variant.name, split)]
        band = [(row.low, row.high) for row in rows if row.low is not None and row.high is not None]
        points = [(threshold, row.mean) for threshold, row in zip(THRESHOLDS, rows, strict=True)]
        lines.append(Line(variant.name, looks[variant.name], points, band))
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
            Line(name, look, list(zip(THRESHOLDS, shares, strict=True)))
            for look, (name, shares) in enumerate(curves.items())
        ]
    )


def _picture(lines: Sequence[Line]) -> str:
    """The curves from 0 to 1, beside them their names, the highest MMA@3 first."""
    ranked = sorted(lines, key=lambda line: -line.points[CORRECT_WITHIN - 1][1])
    legend = [(line, f"{line.points[CORRECT_WITHIN - 1][1]:.3f}  {line.name}") for line in ranked]
    axes = ("threshold (pixels)", "mean matching accuracy")
    chart = line_chart(lines, *axes, marked_x=CORRECT_WITHIN, shown=(0, 1))
    title = f"MMA@{CORRECT_WITHIN}"
    # Texts are of unknown width: so much for a letter of 12 pixels.
    width = _WIDTH + 60 + 7 * max([len(title), *(len(text) for _, text in legend)])
    height = max(_HEIGHT, _TOP + 20 * (len(legend) + 2))
    return f"{_draw('picture', chart, title, legend, _WIDTH + 10, width, height)}\n"
