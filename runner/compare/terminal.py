"""Makes the tables of a report for the terminal; `runner/cli/compare.py` prints them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, median

from rich.console import Group, RenderableType
from rich.text import Text

from evaluation.evaluation import OVERALL, Evaluation
from evaluation.metrics.figure import ImageFigure, PairMetric
from evaluation.metrics.pair_metrics import IMAGE_FIGURES, PAIR_METRICS
from evaluation.report.findings import CAUTION
from evaluation.report.report import Report
from evaluation.report.table import (
    TableColumn,
    difference_columns,
    explained,
    mean_columns,
    metric_cell,
    metric_heading,
)
from evaluation.statistics.variants import MARK, Variant
from runner.terminal.fitted_table import Column, FittedTable

LAST_EPOCH = "Each figure is the mean over seeds, at the last epoch shown."

# With more variants a table of all their figures is too wide for a terminal.
MAX_COLUMNS = 6

CORNERS = "corners: median error of the estimated homographies, px"


def answer(report: Report) -> Text:
    """Returns two lines: who is highest and whether that is shown; what it would take to show it."""
    return Text("\n".join(report.answer), style="bold")


def terms(*parts: RenderableType) -> Text:
    """Explains the terms that the tables use."""
    return Text("\n".join(explained("\n".join(map(_words, parts)))), style="dim")


def _words(part: RenderableType) -> str:
    if isinstance(part, Group):
        return "\n".join(map(_words, part.renderables))
    return part.text if isinstance(part, FittedTable) else str(part)


def means(report: Report) -> Group:
    """Returns the table of all rows, the deciding figure first; then warnings, and what must be said."""
    made = _table(mean_columns(report), report.variants, _title(report))
    in_sweep = bool(report.about.role) or report.comparison is None
    further = [] if in_sweep or len(report.variants) > MAX_COLUMNS else [_further(report)]
    warnings = [
        _warning(variant.name, sentence) for variant in report.variants for sentence in variant.warnings
    ]
    remarks = [
        Text(f"{variant.name}: {sentence}") for variant in report.variants for sentence in variant.remarks
    ]
    notes = [LAST_EPOCH] if any(variant.trained_for for variant in report.variants) else []
    notes += [CAUTION] if CAUTION in report.cautions else []
    notes += [report.about.looks] if report.about.looks else []
    return Group(made, *further, *warnings, *remarks, *(Text(note, style="dim") for note in notes))


def _title(report: Report) -> str:
    about, compared = report.about, report.comparison
    if compared is not None and not about.role:
        return f"{compared.benchmark}, protocol {compared.protocol.title}"
    decides = metric_heading(about.sort_by or f"{about.role}/{about.metric}".lstrip("/"))
    where = "" if about.sort_by or about.split == OVERALL else f" {about.split}"
    return "\n".join(filter(None, [f"{about.title}: {decides}{where}", about.standing]))


def _table(columns: Sequence[TableColumn], variants: Sequence[Variant], title: str) -> FittedTable:
    heads = [Column(column.head, column.words, column.rank) for column in columns]
    made = FittedTable(["variant", *heads], title=title, elsewhere="--html PAGE")
    for variant in variants:
        made.add_row(variant.name, *(column.cell(variant) for column in columns))
    return made


def differences(report: Report) -> Group:
    """Returns the table of each row's difference from its baseline, whether it is real, and its origin."""
    about, several = report.about, report.has_several_baselines
    where = "" if about.split == OVERALL else f" {about.split}"
    to = "its baseline" if several else next(iter(report.baselines.values()), "")
    title = f"{metric_heading(about.metric)}{where}: difference to {to}"
    columns = [column for column in difference_columns(report) if column.head != "baseline"]
    made = _table(columns, report.compared_variants, f"{about.role} {title}".strip())
    baselines = _baselines(report.baselines) if several else []
    notes = [Text(sentence, style="dim") for sentence in report.cautions if sentence != CAUTION]
    return Group(made, *baselines, *notes)


def _baselines(of_rows: Mapping[str, str]) -> list[Text]:
    """Says which rows share a baseline; a narrow terminal may leave out the column that shows it."""
    rows: dict[str, list[str]] = {}
    for row, baseline in of_rows.items():
        rows.setdefault(baseline, []).append(row)
    return [Text(f"{baseline} is the baseline of {', '.join(found)}.") for baseline, found in rows.items()]


def _further(report: Report) -> FittedTable:
    """Makes a table with a line per figure and a column per variant."""
    made = FittedTable(["further figures", *(variant.name for variant in report.variants)], continued=True)
    for key in report.metrics:
        made.add_row(metric_heading(key), *(metric_cell(variant, key) for variant in report.variants))
    return made


def _warning(variant: str, sentence: str) -> Text:
    return Text(f"{MARK} {variant}: {sentence}", style="yellow")


def evaluation_tables(evaluation: Evaluation) -> list[FittedTable | Text]:
    """Returns tables of MMA and other metrics by split, of sequences, and of times; then warnings."""
    title = f"{evaluation.model} on {evaluation.benchmark} ({evaluation.benchmark_digest[:8]}), "
    title += f"protocol {evaluation.protocol.title}"
    warnings = [Text(f"warning: {warning}", style="yellow") for warning in evaluation.warnings]
    parts: list[FittedTable | Text] = [
        Text(title, style="bold"),
        _curves(evaluation),
        _metrics(evaluation),
        _sequences(evaluation),
        Text(_times(evaluation), style="dim"),
        *warnings,
    ]
    return [*parts, terms(*parts)]


def _curves(evaluation: Evaluation) -> FittedTable:
    shares = evaluation.table()
    made = FittedTable(["MMA at", *shares])
    for threshold in range(1, 16):
        made.add_row(f"{threshold} px", *(f"{values[threshold - 1]:.3f}" for values in shares.values()))
    return made


def _metrics(evaluation: Evaluation) -> FittedTable:
    """Makes the table of all metrics but the curve; one at several thresholds has a single row."""
    pixels = evaluation.protocol.shorter_side
    size = "of the original images" if pixels is None else f"of images whose shorter side is {pixels}"
    splits = (None, *evaluation.splits)
    heads = ["metric", *(split or OVERALL for split in splits)]
    made = FittedTable(heads, caption=f"pixels {size}", continued=True)
    found = [evaluation.metrics(split) for split in splits]
    rows: dict[str, list[PairMetric]] = {}
    for metric in PAIR_METRICS.values():
        rows.setdefault(metric.title, []).append(metric)
    for title, metrics in rows.items():
        if title and all(metric.key in found[0] for metric in metrics):
            made.add_row(title, *(_figures(values, metrics) for values in found))
    scalars = evaluation.scalars()
    settings = evaluation.protocol.extraction
    if not settings.min_reliability and not settings.min_repeatability:
        # Without thresholds every image has as many as allowed.
        scalars.pop("keypoints_at_cap", None)
    for figure in IMAGE_FIGURES:
        if figure.key in scalars:
            made.add_row(figure.title, _figures(scalars, [figure]), *("" for _ in evaluation.splits))
    return made


def _figures(values: Mapping[str, float], shown: Sequence[PairMetric | ImageFigure]) -> str:
    return " / ".join(f"{values[one.key]:.{one.decimals}f}" if one.key in values else "-" for one in shown)


def _sequences(evaluation: Evaluation) -> FittedTable:
    names = ("MMA@1", "MMA@3", "MMA@5", "corners\nDLT", "corners\nPoseLib", "repeat-\nability@3")
    heads = ["sequence", *names, "matching\nscore", "key-\npoints", "matches"]
    made = FittedTable(heads, caption=CORNERS, elsewhere="--json FILE")
    for name in dict.fromkeys(pair.sequence for pair in evaluation.pairs):
        pairs = [pair for pair in evaluation.pairs if pair.sequence == name]
        keypoints = (pairs[0].keypoints1 + sum(p.keypoints2 for p in pairs)) / (len(pairs) + 1)
        made.add_row(
            name,
            *(f"{fmean(p.mma[t - 1] for p in pairs):.3f}" for t in (1, 3, 5)),
            *(_middle([getattr(p, f"corner_error_{e}") for p in pairs]) for e in ("dlt", "poselib")),
            _mean([None if p.repeatability is None else p.repeatability[1] for p in pairs]),
            _mean([p.matching_score for p in pairs]),
            f"{keypoints:.0f}",
            f"{fmean(p.matches for p in pairs):.0f}",
        )
    return made


def _middle(values: list[float | None]) -> str:
    """Returns the median, which an infinite error does not spoil."""
    known = [value for value in values if value is not None]
    return f"{median(known):.2f}" if known else "-"


def _mean(values: list[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{fmean(known):.3f}" if known else "-"


def _times(evaluation: Evaluation) -> str:
    times = evaluation.timings
    pairs = len(evaluation.pairs)
    images = len(
        {(p.sequence, p.image) for p in evaluation.pairs} | {(p.sequence, 1) for p in evaluation.pairs}
    )
    reused = f", {times.reused} of {images} found in the store" if times.reused else ""
    return (
        f"extraction {times.extraction / images:.2f} s per image ({evaluation.arithmetic}{reused}), "
        f"matching {times.matching / pairs:.3f} s and metrics {times.metrics / pairs:.3f} s per pair"
    )
