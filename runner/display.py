"""Tables for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, median

from rich.console import Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from evaluation.comparison import Comparison
from evaluation.evaluation import OVERALL, Evaluation
from evaluation.homography import THRESHOLDS as CORNER_THRESHOLDS
from runner.table import Row, cell, columns, heading

ONE_SEED = (
    "Where a variant has one seed, its interval says what other images would do to these networks, not what "
    "another seed would do."
)
CAUTION = (
    "Each figure is that of the last epoch, the mean over seeds. Choosing on HPatches is tuning on the test "
    "set: choose by a validation score."
)

CORNERS = "corners: median error of the estimated homographies, px"


def comparison(table: Sequence[Row], metric: str, title: str) -> Group:
    """The comparison of a sweep's variants, with its warnings and the caution it must carry."""
    shown = columns(table, metric)
    made = Table(title=title, title_justify="left")
    made.add_column("variant", no_wrap=True)
    for name in ("seeds", "epochs", *(heading(c, "\n") for c in shown)):
        made.add_column(name, justify="right", no_wrap=True)
    for row in table:
        made.add_row(escape(row.variant), str(len(row.outcomes)), row.epochs, *(cell(row, c) for c in shown))
    warnings = [Text(f"{row.variant}: {w}", style="yellow") for row in table for w in row.warnings]
    return Group(made, *warnings, Text(CAUTION, style="dim"))


def differences(found: Comparison, threshold: int, role: str) -> Group:
    """Each variant's difference to the baseline at one threshold (pixels), and whether it is real."""
    title = f"{role} MMA@{threshold}: difference to {escape(found.baseline)}"
    made = Table(title=title, title_justify="left")
    for name in ("variant", "difference", "95 % interval", "p (Holm)", ""):
        made.add_column(name, justify="left" if name in ("variant", "") else "right", no_wrap=True)
    shown = [d for d in found.differences if (d.split, d.threshold) == (OVERALL, threshold)]
    for row in sorted(shown, key=lambda d: -d.estimate):
        interval = "-" if row.low is None else f"{row.low:+.3f} to {row.high:+.3f}"
        p = "-" if row.p_holm is None else f"{row.p_holm:.3f}"
        made.add_row(escape(row.variant), f"{row.estimate:+.3f}", interval, p, row.verdict)
    one_seed = any(not row.covers_seeds for row in shown)
    return Group(made, *([Text(ONE_SEED, style="dim")] if one_seed else []))


def evaluation_tables(evaluation: Evaluation) -> list[Table | Text]:
    """MMA at 1 to 15 pixels by split, the other metrics by split, one row per sequence, times, warnings."""
    title = f"{evaluation.model} on {evaluation.benchmark} ({evaluation.benchmark_digest[:8]}), "
    title += f"protocol {evaluation.protocol.title}"
    warnings = [Text(f"warning: {warning}", style="yellow") for warning in evaluation.warnings]
    return [
        Text(title, style="bold"),
        _curves(evaluation),
        _metrics(evaluation),
        _sequences(evaluation),
        Text(_times(evaluation), style="dim"),
        *warnings,
    ]


def _curves(evaluation: Evaluation) -> Table:
    made = Table("MMA at")
    shares = evaluation.table()
    for name in shares:
        made.add_column(name, justify="right")
    for threshold in range(1, 16):
        made.add_row(f"{threshold} px", *(f"{values[threshold - 1]:.3f}" for values in shares.values()))
    return made


def _metrics(evaluation: Evaluation) -> Table:
    """Everything but the curve: a row per metric, those at several thresholds together."""
    pixels = evaluation.protocol.shorter_side
    size = "of the original images" if pixels is None else f"of images whose shorter side is {pixels}"
    made = Table("metric", caption=f"pixels {size}", caption_justify="left")
    splits = (None, *evaluation.splits)
    for split in splits:
        made.add_column(split or OVERALL, justify="right")
    found = [evaluation.metrics(split) for split in splits]
    for label, keys in _METRICS.items():
        if all(key in found[0] for key in keys):
            made.add_row(label, *(_figures(values, keys) for values in found))
    scalars = evaluation.scalars()
    settings = evaluation.protocol.extraction
    if not settings.min_reliability and not settings.min_repeatability:
        # Without thresholds every image has as many as allowed.
        scalars.pop("keypoints_at_cap", None)
    for key, label in _PER_IMAGE.items():
        if key in scalars:
            made.add_row(label, _figures(scalars, (key,)), *("" for _ in evaluation.splits))
    return made


_METRICS = {
    f"{name.upper()}@{'/'.join(map(str, CORNER_THRESHOLDS))}, {label}": tuple(
        f"{name}_{threshold}px_{estimator}" for threshold in CORNER_THRESHOLDS
    )
    for estimator, label in (("dlt", "DLT"), ("poselib", "PoseLib"))
    for name in ("mha", "auc")
} | {
    "repeatability@1/3": ("repeatability_1px", "repeatability_3px"),
    "localisation error, px": ("localisation_error_px",),
    "matching score": ("matching_score",),
    "matches per pair": ("matches",),
}
_PER_IMAGE = {
    "keypoints": "keypoints per image",
    "keypoints_at_cap": "images with as many keypoints as allowed",
    "coverage": "share of the image with keypoints",
}


def _figures(values: Mapping[str, float], keys: Sequence[str]) -> str:
    """Shares and pixels with three decimals, counts with none."""
    return " / ".join(
        "-" if key not in values else f"{values[key]:.{0 if key in ('keypoints', 'matches') else 3}f}"
        for key in keys
    )


def _sequences(evaluation: Evaluation) -> Table:
    names = ("MMA@1", "MMA@3", "MMA@5", "corners DLT", "PoseLib", "repeat.@3", "match. score")
    made = Table("sequence", caption=CORNERS, caption_justify="left")
    for name in (*names, "keypoints", "matches"):
        made.add_column(name, justify="right")
    for name in dict.fromkeys(pair.sequence for pair in evaluation.pairs):
        pairs = [pair for pair in evaluation.pairs if pair.sequence == name]
        keypoints = (pairs[0].keypoints1 + sum(p.keypoints2 for p in pairs)) / (len(pairs) + 1)
        made.add_row(
            escape(name),
            *(f"{fmean(p.mma[t - 1] for p in pairs):.3f}" for t in (1, 3, 5)),
            *(_middle([getattr(p, f"corner_error_{e}") for p in pairs]) for e in ("dlt", "poselib")),
            _mean([None if p.repeatability is None else p.repeatability[1] for p in pairs]),
            _mean([p.matching_score for p in pairs]),
            f"{keypoints:.0f}",
            f"{fmean(p.matches for p in pairs):.0f}",
        )
    return made


def _middle(values: list[float | None]) -> str:
    """The median, which an infinite error does not spoil."""
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
