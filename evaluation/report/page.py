"""Writes a report as one page: HTML with its figures inside, which needs no network and no other file."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from markupsafe import Markup

from evaluation.evaluation import OVERALL
from evaluation.metrics.mma import CORRECT_WITHIN
from evaluation.pictures.examples import MatchExample
from evaluation.pictures.matches import match_caption, match_thumbnail
from evaluation.report import charts
from evaluation.report.charts import looks_of, mma_lines
from evaluation.report.report import Report
from evaluation.report.table import difference_interval, figure, interval, metric_heading, p_value, spread
from evaluation.report.text import provenance, terms, wins
from evaluation.statistics.compare import CURVE
from evaluation.statistics.differences import Comparison, Difference, SequenceDifference

_HELPERS = (difference_interval, figure, interval, metric_heading, p_value, spread, wins)
_LOOKS = {"better": "better", "worse": "worse"}

# A difference that reaches so many times further than the median one is an arrow in the forest plot.
_FAR = 4.0

# Beyond this quantile of the differences the heat map has its full colour: one network that is much worse, as
# the untrained one, would leave no colour for the others.
_FULL_COLOUR = 0.8

# Of the pictures of matches: pixels, and the quality of their JPEG.
_PICTURE_WIDTH, _PICTURE_QUALITY = 1200, 80


def to_html(report: Report) -> str:
    """Returns the whole report as the text of one HTML file; every text in it is escaped."""
    if report.comparison is None:
        raise ValueError("nothing is scored yet: there is no comparison to draw")
    looks = looks_of(report)
    marked = _marked_threshold(report.about.metric)
    page: str = (
        charts.templates()
        .get_template("report.html")
        .render(
            report=report,
            about=report.about,
            compared=report.comparison,
            others=report.compared_variants,
            has_epochs=any(variant.trained_for for variant in report.variants),
            covers_seeds=any(row.covers_seeds for row in report.means),
            sequences=next(row.sequences for row in report.means if row.split == OVERALL),
            parts={row.split: row.sequences for row in report.means},
            legend=[(variant.name, charts.swatch(looks[variant.name])) for variant in report.scored],
            curves=[
                (
                    split,
                    charts.line_chart(mma_lines(report, split), "threshold (pixels)", "MMA", marked_x=marked),
                )
                for split in report.splits
            ],
            training=_training_charts(report, looks),
            trained={variant.name for variant in report.variants if any(variant.curves)},
            pictures=[(name, *_picture(example)) for name, example in report.examples],
            provenance=provenance(report),
            terms=terms(report),
            **_forest(report, report.comparison),
            **_sequences(report, report.comparison),
            **{helper.__name__: helper for helper in _HELPERS},
            look=_look,
        )
    )
    return page


def _look(row: Difference | None) -> str:
    """The class of a difference's colour."""
    return _LOOKS.get(row.verdict, "none") if row is not None else "none"


def _marked_threshold(metric: str) -> int:
    """Where MMA curves are marked: at the threshold of the metric if it is an MMA, else at the usual one."""
    return CURVE.index(metric) + 1 if metric in CURVE else CORRECT_WITHIN


def _training_charts(report: Report, looks: dict[str, int]) -> list[tuple[str, Markup]]:
    """One chart per figure that was followed; several seeds are thin lines."""
    made = []
    for metric, curves in report.training():
        lines = [
            charts.Line(
                variant.name if seed is None else f"{variant.name}, seed {seed}",
                looks[variant.name],
                points,
                thin=len(variant.curves) > 1,
            )
            for variant, seed, points in curves
        ]
        title = metric_heading(metric)
        made.append((title, charts.line_chart(lines, "epoch", title)))
    return made


def _forest(report: Report, compared: Comparison) -> dict[str, Any]:
    """The bars of differences, all on one axis; what lies far beyond the usual is an arrow at its end."""
    shown = [d for d in compared.differences if d.metric == report.about.metric]
    reaches = [max(abs(end) for end in (d.estimate, d.low, d.high) if end is not None) for d in shown]
    usual = _FAR * float(np.median(reaches or [0.0]))
    limit = charts.ticks(0, max((reach for reach in reaches if reach <= usual), default=0) or 0.01)[-1]

    def bar(row: Difference) -> Markup:
        return charts.interval_bar(row.estimate, row.low, row.high, limit, _look(row))

    return {"bar": bar, "axis": charts.bar_axis(limit)}


def _sequences(report: Report, compared: Comparison) -> dict[str, Any]:
    """The heat map of sequences, and its figures."""
    names = [variant.name for variant in report.compared_variants]
    rows = {(r.variant, r.sequence): r for r in compared.by_sequence if r.metric == report.about.metric}
    sequences = list(dict.fromkeys(sequence for _, sequence in rows))
    sizes = [abs(row.estimate) for row in rows.values()] or [0.0]
    limit = charts.ticks(0, float(np.quantile(sizes, _FULL_COLOUR)) or 0.01)[-1]
    table = [[rows[name, sequence] for name in names] for sequence in sequences]

    def share(row: SequenceDifference) -> float:
        return min(1.0, abs(row.estimate) / limit)

    return {
        "heat_limit": limit,
        "share": share,
        "by_sequence": [
            (sequence, {row.baseline: row.mean - row.estimate for row in found}, found)
            for sequence, found in zip(sequences, table, strict=True)
        ],
    }


def _picture(example: MatchExample) -> tuple[str, str]:
    """What a picture shows in words, and the picture as a data URI."""
    buffer = io.BytesIO()
    match_thumbnail(example, _PICTURE_WIDTH).save(buffer, format="jpeg", quality=_PICTURE_QUALITY)
    data = base64.b64encode(buffer.getvalue()).decode()
    return match_caption(example), f"data:image/jpeg;base64,{data}"
