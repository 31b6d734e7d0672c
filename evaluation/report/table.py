"""Writes keys and figures as people write them, and defines the columns of a report's tables."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from evaluation.evaluation import OVERALL
from evaluation.metrics.figure import USUAL_RANK
from evaluation.metrics.pair_metrics import ranked
from evaluation.report.report import Report
from evaluation.statistics.differences import Difference, Mean
from evaluation.statistics.variants import Variant

_ABBREVIATIONS = {"mma": "MMA", "mha": "MHA", "auc": "AUC", "dlt": "DLT", "poselib": "PoseLib", "std": "std"}


def heading(key: str) -> str:
    """Turns a key without its role into a heading: `MMA@3`, `AUC@5 PoseLib`, `localisation error (px)`."""
    at_pixels = re.sub(r"^([a-z_]+)_(\d+)px", r"\1@\2", key)
    in_pixels = re.sub(r"_px$", " (px)", at_pixels)
    words = in_pixels.replace("_", " ").split(" ")
    return " ".join(_word(word) for word in words)


def metric_heading(key: str) -> str:
    """Returns a figure's heading with its role: `AUC@3 DLT`, `hpatches MMA@3`, `loss peakiness`."""
    role, _, name = key.rpartition("/")
    words = heading(name.removeprefix("loss_"))
    return f"{'loss' if role == 'train' else role} {words}".strip()


def _word(word: str) -> str:
    name, at, threshold = word.partition("@")
    return _ABBREVIATIONS.get(name, name) + at + threshold


def figure(value: float, sign: str = "") -> str:
    """Formats a figure for tables: three decimals, none if it is large; `+` before a positive difference."""
    return f"{value:{sign}.0f}" if abs(value) >= 100 else f"{value:{sign}.3f}"


def interval(mean: Mean) -> str:
    """Formats the 95 % interval of a mean; empty with a single sequence."""
    return "" if mean.low is None or mean.high is None else f"{figure(mean.low)} to {figure(mean.high)}"


def difference_interval(row: Difference) -> str:
    """Formats the 95 % interval of a difference; empty with a single sequence."""
    return "" if row.low is None or row.high is None else f"{figure(row.low, '+')} to {figure(row.high, '+')}"


def p_value(p: float | None) -> str:
    """Formats a p-value as tables show it; empty if there is none."""
    if p is None:
        return ""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


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
    has_seeds = any(variant.seeds for variant in report.variants)
    made = [TableColumn("seeds" if has_seeds else "networks", lambda variant: str(variant.networks), 2)]
    if any(variant.trained_for for variant in report.variants):
        made += [TableColumn("epochs", lambda variant: variant.trained_for, 2)]
    if about.sort_by:
        made += [_further(about.sort_by, 0)]
    if report.scored or not about.sort_by:
        where = "" if about.split == OVERALL else f" {about.split}"
        made += [TableColumn(f"{role}{first}{where}", _mean(report, about.split), int(bool(about.sort_by)))]
    if report.scored:
        made += [TableColumn(f"95 % of\n{first}", lambda variant: _interval(report, variant))]
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
    own = [TableColumn("baseline", lambda variant: report.baselines.get(variant.name, ""), 2)]
    return [
        *(own if report.has_several_baselines else []),
        TableColumn("difference", partial(_difference, report), 0),
        TableColumn("95 % interval", lambda variant: _of_difference(report, variant, interval=True)),
        TableColumn("p (Holm)", lambda variant: _of_difference(report, variant, interval=False), 2),
        TableColumn("verdict", lambda variant: report.words(variant.name), 0, words=True),
        *(TableColumn(split, partial(_brief, report, split), 3) for split in others),
        TableColumn("sequences above", partial(_above, report), 3),
    ]


def metric_cell(variant: Variant, key: str) -> str:
    """Formats a further figure: mean, standard deviation over several networks; `-` without it."""
    if key not in variant.figures:
        return "-"
    deviation = f" {spread(variant, key)}" if key in variant.deviations else ""
    return f"{figure(variant.figures[key])}{deviation}{variant.mark}"


def spread(variant: Variant, key: str) -> str:
    """Formats the standard deviation over networks of a further figure, with the decimals of its mean."""
    decimals = 0 if abs(variant.figures[key]) >= 100 else 3
    return f"±{variant.deviations[key]:.{decimals}f}"


def _further(key: str, rank: int) -> TableColumn:
    return TableColumn(metric_heading(key).replace(" ", "\n", 1), partial(metric_cell, key=key), rank)


def _mean(report: Report, split: str, key: str | None = None) -> Callable[[Variant], str]:
    """The cell of a mean of a row; over all pairs with the standard deviation over networks."""

    def cell(variant: Variant) -> str:
        mean = report.mean(variant.name, split, key)
        if mean is None:
            return "-"
        known = split == OVERALL and mean.metric in variant.deviations
        return f"{figure(mean.mean)}{f' {spread(variant, mean.metric)}' if known else ''}{variant.mark}"

    return cell


def _interval(report: Report, variant: Variant) -> str:
    mean = report.mean(variant.name)
    return ("" if mean is None else interval(mean)) or "-"


def _difference(report: Report, variant: Variant) -> str:
    row = report.difference(variant.name)
    return "" if row is None else f"{figure(row.estimate, '+')}{variant.mark}"


def _of_difference(report: Report, variant: Variant, interval: bool) -> str:
    row = report.difference(variant.name)
    if row is None:
        return ""
    return (difference_interval(row) if interval else p_value(row.p_holm)) or "-"


def _brief(report: Report, split: str, variant: Variant) -> str:
    """The difference in a split, and a verdict if there is one to tell."""
    row = report.difference(variant.name, split)
    if row is None:
        return ""
    verdict = f" {row.verdict}" if row.verdict in ("better", "worse") else ""
    return f"{figure(row.estimate, '+')}{verdict}"


def _above(report: Report, variant: Variant) -> str:
    found = report.by_sequence(variant.name)
    return f"{sum(one.estimate > 0 for one in found)} of {len(found)}" if found else ""


# A term that a text may use, and its explanation.
_TERMS = (
    ("MMA", "MMA@t: mean matching accuracy, the share of matches within t pixels of the true position."),
    ("MHA", "MHA@t: the share of image pairs whose homography puts the corners within t pixels, on average."),
    ("AUC", "AUC@t: the area under the curve of MHA from 0 to t pixels, as a share."),
    ("DLT", "DLT: direct linear transform, a homography fitted to all matches by least squares."),
    ("PoseLib", "PoseLib: a homography that leaves wrong matches out (RANSAC), by the library of that name."),
    (
        "repeatability@",
        "repeatability@t: the share of keypoints found again in the other image, within t pixels.",
    ),
    (
        "localisation error",
        "localisation error: the mean distance of keypoints found again within 3 pixels, in pixels.",
    ),
    ("matching score", "matching score: the share of keypoints that are matched correctly, within 3 pixels."),
    ("±", "±: the standard deviation over seeds."),
    ("95 %", "95 % interval: where the true value lies in 95 of 100 such studies."),
    (
        "Holm",
        "p (Holm): the probability that equal variants differ by as much by chance, corrected for the number "
        "of comparisons by Holm's method.",
    ),
    ("protocol", "protocol: how features are extracted, matched and scored, with all settings."),
    (
        "digest",
        "digest: the SHA-256 of all settings or files, shortened in brackets; equal digests mean equal "
        "settings or files.",
    ),
)


def explained(text: str) -> list[str]:
    """Returns the sentences on the terms that a text uses, in a fixed order.

    An explanation of `AUC` brings that of `MHA`, by which it is defined, and that of a protocol brings that
    of its digest.
    """
    found = {term for term, _ in _TERMS if re.search(rf"(?<!\w){re.escape(term)}", text)}
    found |= {"MHA"} if "AUC" in found else set()
    found |= {"digest"} if re.search(r"protocol \S+ \([0-9a-f]+\)", text) else set()
    return [sentence for term, sentence in _TERMS if term in found]
