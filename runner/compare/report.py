"""Comparing: contenders become a report, a report becomes files."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from evaluation.benchmarks.hpatches import SPLITS
from evaluation.evaluation import OVERALL
from evaluation.metrics.mma import THRESHOLDS
from evaluation.metrics.pair_metrics import PAIR_METRICS
from evaluation.report.build import make_report
from evaluation.report.curves import mma_curves
from evaluation.report.page import to_html
from evaluation.report.report import About, Report
from evaluation.report.text import to_answer, to_csv, to_json, to_markdown
from r2d2.storage.atomic import atomic_file
from r2d2.storage.open import store_at
from r2d2.storage.store import Store
from r2d2.version import code_version
from runner.compare.contenders import Contender, curves_of, figures_of, variants_of
from runner.compare.controls import find_row
from runner.compare.stored import compared, controls_of
from runner.compare.table import Row
from runner.compare.table import to_csv as table_to_csv
from runner.compare.table import to_markdown as table_to_markdown
from runner.record.history import TRAIN
from runner.record.ordering import USUAL, find_ordering, mode_of
from runner.record.sweep import StoredSweep

log = logging.getLogger(__name__)

PAGE, CURVES, ANSWER = "comparison.html", "mma_curves.svg", "answer.md"


def compare_contenders(
    contenders: Sequence[Contender],
    metric: str,
    *,
    title: str,
    question: str = "",
    baseline: str | Mapping[str, str] | None = None,
    ascending: bool | None = None,
    standing: str = "",
    unscored: Collection[str] = (),
    command: str = "",
) -> Report:
    """The report that compares contenders.

    Args:
        contenders: at least one.
        metric: what is compared and orders the table, with or without its role, e.g.
            `hpatches/auc_5px_poselib_viewpoint`. What pairs have no number of, a loss say, only orders the
            table: MMA@3 is compared.
        title: of the report.
        question: that it answers; may be empty.
        baseline: a variant, or each one's own; None: the first one.
        ascending: whether the smallest figure is the best; None: where it is a loss or an error.
        standing: how far the trainings have come, a sentence; empty if they have ended.
        unscored: rows that others are to be compared with and that have no score yet.
        command: makes the report again.

    Raises:
        ValueError: if they were not judged alike, or the baseline or the metric is unknown.
    """
    variants = variants_of(contenders)
    role, _, name = metric.rpartition("/")
    key, split = _parted(name)
    compared = role != TRAIN and key in PAIR_METRICS
    about = About(
        title=title,
        question=question,
        role="" if role == TRAIN else role,
        metric=key if compared else USUAL,
        split=split if compared else OVERALL,
        sort_by="" if compared else (metric if role == TRAIN else name),
        ascending=mode_of(metric) == "min" if ascending is None else ascending,
        standing=standing,
        unscored=tuple(unscored),
        command=command,
        code_version=code_version(),
        training=curves_of(contenders),
    )
    if isinstance(baseline, str):
        baseline = find_row(baseline, [variant.name for variant in variants])
    baseline = variants[0].name if baseline is None else baseline
    return make_report(variants, baseline, about, figures_of(contenders))


def _parted(name: str) -> tuple[str, str]:
    """The key of a metric and the split behind it, `overall` if there is none."""
    for split in SPLITS:
        if name.endswith(f"_{split}"):
            return name.removesuffix(f"_{split}"), split
    return name, OVERALL


def sweep_report(
    stored: StoredSweep,
    metric: str | None = None,
    baseline: str | None = None,
    question: str = "",
    role: str = "",
) -> Report | None:
    """The report of one sweep; None if nothing is scored yet.

    Args:
        stored: the sweep.
        metric: what orders the table; None: what decides the sweep.
        baseline: a row; None: as the sweep's file says, else the first one that was trained.
        question: that the sweep asks; empty: as it was written down when it started.
        role: of the benchmark; empty: that of the metric.

    Raises:
        ValueError: as `compare_contenders` and `find_ordering`.
    """
    definition = stored.definition
    order = find_ordering(metric, role, definition)
    contenders, standing = compared(stored, order.role)
    if not contenders:
        return None
    rows = list(dict.fromkeys(c.variant for c in contenders))
    controls = None if baseline else controls_of(stored)
    return compare_contenders(
        contenders,
        order.metric,
        title=definition.name,
        question=question or stored.question,
        baseline=baseline or _scored(controls, rows),
        unscored=dict.fromkeys(control for control in (controls or {}).values() if control not in rows),
        ascending=order.mode == "min",
        standing=standing.words,
        command=compare_command([definition.name], metric=metric, role=role, baseline=baseline),
    )


def _scored(controls: Mapping[str, str] | None, rows: Collection[str]) -> dict[str, str] | None:
    """The row that each row is compared with, of those with scores; None if the sweep's file names none."""
    if not controls:
        return None
    return {row: controls[row] for row in rows if controls.get(row) in rows}


def compare_command(what: Sequence[str], **options: object) -> str:
    """The command line that compares again; options that are None or empty are left out."""
    given = [part for name, value in options.items() if value for part in (f"--{name}", str(value))]
    return shlex.join(["r2d2", "compare", *what, *given])


def report_files(report: Report) -> dict[str, str | bytes]:
    """The report in every form, by file name."""
    return {
        ANSWER: to_answer(report),
        PAGE: to_html(report),
        "comparison.md": to_markdown(report),
        "comparison.csv": to_csv(report),
        "comparison.json": to_json(report),
        CURVES: curves_picture(report),
    }


def comparison_files(stored: StoredSweep, table: Sequence[Row], question: str) -> dict[str, str | bytes]:
    """All files about a sweep that has ended; if it cannot be compared, those of its table alone."""
    metric = stored.definition.metric
    files: dict[str, str | bytes] = {
        "comparison.md": table_to_markdown(table, metric),
        "comparison.csv": table_to_csv(table, metric),
    }
    try:
        report = sweep_report(stored, question=question)
    except ValueError as error:
        log.warning("the sweep cannot be compared: %s", error)
        return files
    return files if report is None else report_files(report)


def curves_picture(report: Report) -> str:
    """An SVG file of the MMA curves of all variants with their intervals."""
    rows = {
        entry.name: [row for row in report.curves if (row.variant, row.split) == (entry.name, OVERALL)]
        for entry in report.entries
    }
    curves = {name: np.array([row.mean for row in found]) for name, found in rows.items()}
    bands = {
        name: np.array([[row.low for row in found], [row.high for row in found]], dtype=np.float64)
        for name, found in rows.items()
        if all(row.low is not None for row in found)
    }
    assert all(len(curve) == len(THRESHOLDS) for curve in curves.values())
    return mma_curves(curves, bands)


def save_pictures(sweep: str | Path | Store, files: Mapping[str, str | bytes]) -> str | None:
    """Keeps what is to be looked at beside a sweep; returns the page's place, None without one."""
    for name in {PAGE, CURVES} & files.keys():
        store_at(sweep).write(name, _encoded(files[name]))
    return f"{store_at(sweep).place}/{PAGE}" if PAGE in files else None


def write_file(path: Path, content: str | bytes) -> None:
    """Writes a file whole or not at all."""
    with atomic_file(path) as file:
        file.write(_encoded(content))


def _encoded(content: str | bytes) -> bytes:
    return content.encode() if isinstance(content, str) else content
