"""Defines the columns of a report's tables, for terminals and for Markdown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from evaluation.evaluation import OVERALL
from evaluation.metrics.figure import USUAL_RANK
from evaluation.metrics.pair_metrics import ranked
from evaluation.report.report import Report
from evaluation.report.words import difference_interval, figure, interval, metric_heading, p_value
from evaluation.statistics.variants import Variant


@dataclass(frozen=True)
class TableColumn:
    """A TableColumn is a column of a report's table.

    Attributes:
        head: its heading, in one or two lines.
        cell: the text of a row.
        rank: columns of a higher rank are left out first where there is no room; 0 stays in any case.
        words: whether its cells are words.
    """

    head: str
    cell: Callable[[Variant], str]
    rank: int = 1
    words: bool = False


def mean_columns(report: Report) -> list[TableColumn]:
    """Returns columns about a row by itself: its means, the deciding one first, and its trainings."""
    about = report.about
    first, role = metric_heading(about.metric), about.role and f"{about.role}\n"
    has_seeds = any(entry.seeds for entry in report.entries)
    made = [TableColumn("seeds" if has_seeds else "networks", lambda entry: str(entry.networks), 2)]
    if any(entry.trained_for for entry in report.entries):
        made += [TableColumn("epochs", lambda entry: entry.trained_for, 2)]
    if about.sort_by:
        made += [_further(about.sort_by, 0)]
    if report.scored or not about.sort_by:
        where = "" if about.split == OVERALL else f" {about.split}"
        made += [TableColumn(f"{role}{first}{where}", _mean(report, about.split), int(bool(about.sort_by)))]
    if report.scored:
        made += [TableColumn(f"95 % of\n{first}", lambda entry: _interval(report, entry))]
    for key in [key for key in report.compared if key != about.metric]:
        rank = 3 if key in ranked(USUAL_RANK) else 5
        made += [TableColumn(f"{role}{metric_heading(key)}", _mean(report, OVERALL, key), rank)]
    made += [_further(key, 4) for key in report.of_training]
    others = [split for split in report.splits if split != about.split]
    return [*made, *(TableColumn(f"{first}\n{split}", _mean(report, split), 5) for split in others)]


def difference_columns(report: Report) -> list[TableColumn]:
    """Returns columns about a row's difference from its baseline; none where no row has a baseline."""
    if not report.baselines:
        return []
    others = [split for split in report.splits if split != report.about.split]
    own = [TableColumn("baseline", lambda entry: report.baselines.get(entry.name, ""), 2)]
    return [
        *(own if report.has_several_baselines else []),
        TableColumn("difference", partial(_difference, report), 0),
        TableColumn("95 % interval", lambda entry: _of_difference(report, entry, interval=True)),
        TableColumn("p (Holm)", lambda entry: _of_difference(report, entry, interval=False), 2),
        TableColumn("verdict", lambda entry: report.words(entry.name), 0, words=True),
        *(TableColumn(split, partial(_brief, report, split), 3) for split in others),
        TableColumn("sequences above", partial(_above, report), 3),
    ]


def metric_cell(entry: Variant, key: str) -> str:
    """Formats a further figure: mean, standard deviation over several networks; `-` without it."""
    if key not in entry.figures:
        return "-"
    deviation = f" {spread(entry, key)}" if key in entry.deviations else ""
    return f"{figure(entry.figures[key])}{deviation}{entry.mark}"


def spread(entry: Variant, key: str) -> str:
    """Formats the standard deviation over networks of a further figure, with the decimals of its mean."""
    decimals = 0 if abs(entry.figures[key]) >= 100 else 3
    return f"±{entry.deviations[key]:.{decimals}f}"


def _further(key: str, rank: int) -> TableColumn:
    return TableColumn(metric_heading(key).replace(" ", "\n", 1), partial(metric_cell, key=key), rank)


def _mean(report: Report, split: str, key: str | None = None) -> Callable[[Variant], str]:
    """The cell of a mean of a row; over all pairs with the standard deviation over networks."""

    def cell(entry: Variant) -> str:
        mean = report.mean(entry.name, split, key)
        if mean is None:
            return "-"
        known = split == OVERALL and mean.metric in entry.deviations
        return f"{figure(mean.mean)}{f' {spread(entry, mean.metric)}' if known else ''}{entry.mark}"

    return cell


def _interval(report: Report, entry: Variant) -> str:
    mean = report.mean(entry.name)
    return ("" if mean is None else interval(mean)) or "-"


def _difference(report: Report, entry: Variant) -> str:
    row = report.difference(entry.name)
    return "" if row is None else f"{figure(row.estimate, '+')}{entry.mark}"


def _of_difference(report: Report, entry: Variant, interval: bool) -> str:
    row = report.difference(entry.name)
    if row is None:
        return ""
    return (difference_interval(row) if interval else p_value(row.p_holm)) or "-"


def _brief(report: Report, split: str, entry: Variant) -> str:
    """The difference in a split, and a verdict if there is one to tell."""
    row = report.difference(entry.name, split)
    if row is None:
        return ""
    verdict = f" {row.verdict}" if row.verdict in ("better", "worse") else ""
    return f"{figure(row.estimate, '+')}{verdict}"


def _above(report: Report, entry: Variant) -> str:
    found = report.by_sequence(entry.name)
    return f"{sum(one.estimate > 0 for one in found)} of {len(found)}" if found else ""
