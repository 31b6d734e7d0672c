"""Small drawings as inline SVG: they follow the page's width, its text and its light or dark colours.

Colours are classes `c0` to `c7` of the page's style sheet; what does not fit is told apart by dashes.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

COLOURS = 8
_DASHES = ("", "6 4", "2 3", "8 3 2 3")

_WIDTH, _HEIGHT = 440, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 10, 12, 42
_BAR_WIDTH, _BAR_HEIGHT, _BAR_MARGIN = 260, 24, 16

Point = tuple[float, float]


@dataclass(frozen=True)
class Line:
    """One line of a chart.

    Attributes:
        name: shown when the pointer rests on it.
        look: number of its colour and dashes.
        points: x and y, by x.
        band: the lower and the upper end at each point; empty: none.
        thin: one seed of several.
    """

    name: str
    look: int
    points: Sequence[Point]
    band: Sequence[tuple[float, float]] = ()
    thin: bool = False


@dataclass(frozen=True)
class _Scale:
    """Maps values between two limits to pixels between two ends."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def line_chart(
    lines: Sequence[Line],
    x_label: str,
    y_label: str,
    marked_x: float | None = None,
    shown: tuple[float, ...] = (),
) -> Markup:
    """Lines over a grid whose limits follow the values, bands included.

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
    parts = [_grid(x, y, [tick for tick in x_ticks if x_low <= tick <= x_high], y_ticks)]
    if marked_x is not None:
        place = x(marked_x)
        parts.append(_format('<path class="mark" d="M{:.1f} {:.1f}V{:.1f}"/>', place, _TOP, y.start))
    middle = (_TOP + _HEIGHT - _BOTTOM) / 2
    parts += [
        _format('<text x="{:.0f}" y="{}" class="mid">{}</text>', (x.start + x.end) / 2, _HEIGHT - 6, x_label),
        _format('<text transform="translate(12 {:.0f}) rotate(-90)" class="mid">{}</text>', middle, y_label),
        *(_band(line, x, y) for line in lines if line.band),
        *(_line(line, x, y) for line in lines),
    ]
    return _svg(_WIDTH, _HEIGHT, "chart", f"{y_label} by {x_label}", parts)


def interval_bar(value: float, low: float | None, high: float | None, limit: float, look: str) -> Markup:
    """A difference with its interval on an axis from -limit to limit; an arrow if it lies beyond.

    Args:
        value: the difference.
        low: the lower end of its interval; None without one.
        high: the upper end.
        limit: above 0.
        look: the class of its colour.
    """
    x, y = _bar_scale(limit), _BAR_HEIGHT / 2
    parts = [_format('<path class="zero" d="M{:.1f} 0V{}"/>', x(0), _BAR_HEIGHT)]
    if low is not None and high is not None:
        ends = [x(max(-limit, min(limit, end))) for end in (low, high)]
        parts.append(_format('<path class="whisker" d="M{:.1f} {y}H{:.1f}"/>', *ends, y=y))
    if abs(value) <= limit:
        parts.append(_format('<circle cx="{:.1f}" cy="{}" r="4.5"/>', x(value), y))
    else:
        end, back = x(math.copysign(limit, value)), math.copysign(8, value)
        corners = (end, y, end - back, y - 5, end - back, y + 5)
        parts.append(_format('<polygon points="{:.1f},{:.1f} {:.1f},{:.1f} {:.1f},{:.1f}"/>', *corners))
    text = f"{value:+.3f}" if low is None else f"{value:+.3f}, from {low:+.3f} to {high:+.3f}"
    return _svg(_BAR_WIDTH, _BAR_HEIGHT, f"bar {look}", text, parts)


def bar_axis(limit: float) -> Markup:
    """The axis below `interval_bar`s of the same limit."""
    x = _bar_scale(limit)
    parts = [_format('<path class="grid" d="M{:.1f} 1H{:.1f}"/>', x.start, x.end)]
    for tick in ticks(-limit, limit, count=4):
        if abs(tick) <= limit * 1.001:
            parts.append(_format('<path class="grid" d="M{:.1f} 0V5"/>', x(tick)))
            label = "0" if tick == 0 else f"{tick:+g}"
            parts.append(_format('<text x="{:.1f}" y="18" class="mid">{}</text>', x(tick), label))
    return _svg(_BAR_WIDTH, _BAR_HEIGHT, "bar", f"axis from {-limit:+g} to {limit:+g}", parts)


def swatch(look: int) -> Markup:
    """A piece of a line, for a legend."""
    dashes = _DASHES[look // COLOURS % len(_DASHES)]
    path = _format('<path class="line" stroke-dasharray="{}" d="M1 6H27"/>', dashes)
    return _svg(28, 12, f"swatch c{look % COLOURS}", "", [path])


def picture(chart: Markup, title: str, legend: Sequence[tuple[int, str]]) -> str:
    """A chart and its legend as the contents of an SVG file, in the page's colours.

    Args:
        chart: what `line_chart` returns.
        title: of the legend.
        legend: look and text of each entry, in the order of drawing.
    """
    # Texts are of unknown width: so much for a letter of 12 pixels.
    wide = _WIDTH + 60 + 7 * max([len(title), *(len(text) for _, text in legend)])
    high = max(_HEIGHT, _TOP + 20 * (len(legend) + 2))
    parts = [
        _format('<rect width="{}" height="{}" fill="var(--paper)"/>', wide, high),
        chart,
        _format('<text x="{}" y="{}">{}</text>', _WIDTH + 10, _TOP + 12, title),
    ]
    for row, (look, text) in enumerate(legend, start=1):
        y = _TOP + 20 * row
        parts.append(_format('<g transform="translate({} {})">{}</g>', _WIDTH + 10, y, swatch(look)))
        parts.append(_format('<text x="{}" y="{}">{}</text>', _WIDTH + 46, y + 11, text))
    drawing = _svg(wide, high, "picture", title, [Markup("<style>") + _style() + Markup("</style>"), *parts])
    return str(drawing).replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1) + "\n"


@functools.cache
def _style() -> Markup:
    """The page's style sheet, which colours and texts follow in a file of its own too."""
    sheet = (Path(__file__).with_name("template") / "report.css").read_text(encoding="utf-8")
    # Beside a legend a chart does not follow the page's width.
    sheet += f".picture .chart {{ width: {_WIDTH}px; height: {_HEIGHT}px; max-width: none; }}"
    return Markup(sheet)  # noqa: S704  (it is our own)


def ticks(low: float, high: float, count: int = 5, whole: bool = False) -> list[float]:
    """About `count` round numbers that enclose the values from low to high.

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


def _grid(x: _Scale, y: _Scale, x_ticks: Sequence[float], y_ticks: Sequence[float]) -> Markup:
    row = Markup(
        '<path class="grid" d="M{:.1f} {:.1f}H{:.1f}"/><text x="{:.1f}" y="{:.1f}" class="end">{:g}</text>'
    )
    column = Markup('<text x="{:.1f}" y="{:.1f}" class="mid">{:g}</text>')
    parts = [row.format(x.start, y(tick), x.end, x.start - 6, y(tick) + 4, tick) for tick in y_ticks]
    parts += [column.format(x(tick), y.start + 16, tick) for tick in x_ticks]
    return Markup("").join(parts)


def _line(line: Line, x: _Scale, y: _Scale) -> Markup:
    places = " ".join(f"{x(one):.1f},{y(other):.1f}" for one, other in line.points)
    dashes = _DASHES[line.look // COLOURS % len(_DASHES)]
    kind = f"line c{line.look % COLOURS}" + (" thin" if line.thin else "")
    if len(line.points) == 1:
        ((one, other),) = line.points
        form = '<circle class="dot c{}" cx="{:.1f}" cy="{:.1f}" r="3.5"><title>{}</title></circle>'
        return _format(form, line.look % COLOURS, x(one), y(other), line.name)
    form = '<polyline class="{}" stroke-dasharray="{}" points="{}"><title>{}</title></polyline>'
    return _format(form, kind, dashes, places, line.name)


def _band(line: Line, x: _Scale, y: _Scale) -> Markup:
    xs = [one for one, _ in line.points]
    lower = [(one, low) for one, (low, _) in zip(xs, line.band, strict=True)]
    upper = [(one, high) for one, (_, high) in zip(xs, line.band, strict=True)]
    places = " ".join(f"{x(one):.1f},{y(other):.1f}" for one, other in [*lower, *reversed(upper)])
    return _format('<polygon class="band c{}" points="{}"/>', line.look % COLOURS, places)


def _bar_scale(limit: float) -> _Scale:
    return _Scale(-limit, limit, _BAR_MARGIN, _BAR_WIDTH - _BAR_MARGIN)


def _svg(width: float, height: float, kind: str, text: str, parts: Sequence[Markup]) -> Markup:
    """An SVG element; `text` is what screen readers say, nothing for an ornament."""
    said = _format('role="img" aria-label="{}"', text) if text else Markup('aria-hidden="true"')
    return _format(
        '<svg class="{}" viewBox="0 0 {:.0f} {:.0f}" width="{:.0f}" height="{:.0f}" {}>{}</svg>',
        *(kind, width, height, width, height, said, Markup("").join(parts)),
    )


def _format(form: str, *values: object, **named: object) -> Markup:
    """Fills a piece of SVG; texts are escaped."""
    return Markup(form).format(*values, **named)  # noqa: S704  (the form is our own, the values are escaped)
