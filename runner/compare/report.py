"""Compares networks in a report, turns a report into files, and finds how far scores scatter."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from evaluation.metrics.pair_metrics import PAIR_METRICS
from evaluation.report.charts import curves_picture
from evaluation.report.findings import make_report
from evaluation.report.page import to_html
from evaluation.report.report import About, Report
from evaluation.report.text import to_answer, to_csv, to_json, to_markdown
from evaluation.statistics.power import PAIR, SEED, SEED_ON_SEQUENCE, Variances
from evaluation.statistics.variants import Variant, joined
from r2d2.storage.atomic import atomic_file
from r2d2.storage.location import store_at
from r2d2.storage.store import Store
from r2d2.version import code_version
from runner.compare.rounds import Rounds, rounds_of
from runner.compare.rows import Ordering, find_ordering, find_row, metric_and_split
from runner.compare.stored import baselines_of_rows, compared
from runner.record.definition import SweepDefinition
from runner.record.history import TRAIN
from runner.record.looks import Ledger, is_test
from runner.record.sweep import StoredSweep, sweep_names
from runner.settings import Settings

log = logging.getLogger(__name__)

PAGE, CURVES, ANSWER = "comparison.html", "mma_curves.svg", "answer.md"
# Reports are made of so many sweeps at most, those with the most trials first.
_MOST_READ = 3


def compare_networks(
    networks: Sequence[Variant],
    order: Ordering,
    about: About,
    baseline: str | Mapping[str, str] | None = None,
    rounds: Rounds | None = None,
) -> Report:
    """Compares networks in a report; those of one name form one row.

    Args:
        networks: at least one; one without a score appears in the table only.
        order: what is compared and orders the table. Where pairs have no number of it, as of a loss, MMA@3 is
            compared.
        about: what the report is about; what follows from the order is filled in here.
        baseline: a variant, or each one's own; None: the first one.
        rounds: of a sweep with a question; their answers are the verdicts.

    Raises:
        ValueError: if they were not scored alike, or the baseline or the metric is unknown.
    """
    variants = joined(networks)
    of_metric, _, name = order.metric.rpartition("/")
    key, split = metric_and_split(name)
    about = replace(about, role=order.role, ascending=order.mode == "min", code_version=code_version())
    if of_metric != TRAIN and key in PAIR_METRICS:
        about = replace(about, metric=key, split=split)
    else:
        about = replace(about, sort_by=order.metric if of_metric == TRAIN else name)
    rows = [variant.name for variant in variants if variant.evaluations]
    if isinstance(baseline, str):
        baseline = find_row(baseline, rows)
    if baseline is None:
        baseline = rows[0] if rows else {}
    decisions = tuple(rounds.decisions.values()) if rounds is not None else ()
    return make_report(variants, baseline, about, decisions=decisions)


def sweep_report(
    stored: StoredSweep,
    metric: str | None = None,
    baseline: str | None = None,
    question: str = "",
    role: str = "",
) -> Report:
    """Makes the report of one sweep; before the first score it has the table alone.

    Args:
        stored: the sweep.
        metric: what orders the table; None: what decides the sweep.
        baseline: a row; None: as the sweep's file says, else the first one that was trained.
        question: the sweep's question; empty: the one written down when the sweep started.
        role: of the benchmark; empty: that of the metric.

    Raises:
        ValueError: as `compare_networks`; if no trial was started; as `find_ordering`.
    """
    definition = stored.definition
    order = find_ordering(metric, role, definition)
    networks, standing = compared(stored, order.role)
    if not networks:
        raise ValueError(f"sweep '{definition.name}' has no trial yet: there is nothing to compare")
    rows = list(dict.fromkeys(one.name for one in networks if one.evaluations))
    baselines = {} if baseline else baselines_of_rows(stored)
    # None: the sweep names none, and the first row is the baseline.
    own = {row: baselines[row] for row in rows if baselines.get(row) in rows} if baselines else None
    # The answers are about the metric and the baselines of the question alone.
    asked = metric in (None, definition.metric) and baseline is None
    rounds = rounds_of(stored) if asked else None
    about = About(
        title=definition.name,
        question=question or stored.question,
        standing=standing.words if rounds is None else rounds.words,
        unscored=tuple(dict.fromkeys(one for one in baselines.values() if one not in rows)),
        command=compare_command([definition.name], metric=metric, role=role, baseline=baseline),
        looks=_looks(stored, definition),
    )
    return compare_networks(networks, order, about, baseline or own, rounds)


def _looks(stored: StoredSweep, definition: SweepDefinition) -> str:
    """How often the home's networks were scored on the tests that the sweep's are scored on."""
    ledger = Ledger.of_sweep(stored.store)
    tests = {
        role: ledger.looks(is_on["digest"], stored.name)
        for role, is_on in definition.benchmarks.items()
        if is_test(role)
    }
    return " ".join(looks.words(role) for role, looks in tests.items())


def final_report(stored: StoredSweep, question: str = "") -> Report | None:
    """Makes the report of a sweep that has ended; warns and returns None if there is nothing to report."""
    try:
        return sweep_report(stored, question=question)
    except ValueError as error:
        log.warning("the sweep cannot be compared: %s", error)
        return None


def compare_command(what: Sequence[str], **options: object) -> str:
    """Returns the command line that compares again; options that are None or empty are left out."""
    given = [part for name, value in options.items() if value for part in (f"--{name}", str(value))]
    return shlex.join(["r2d2", "compare", *what, *given])


def report_files(report: Report) -> dict[str, str | bytes]:
    """Returns the report in every form, by file name; without a score there is no page and no curve."""
    files: dict[str, str | bytes] = {
        ANSWER: to_answer(report),
        "comparison.md": to_markdown(report),
        "comparison.csv": to_csv(report),
        "comparison.json": to_json(report),
    }
    return files | ({PAGE: to_html(report), CURVES: curves_picture(report)} if report.scored else {})


def save_pictures(sweep: str | Path | Store, files: Mapping[str, str | bytes]) -> str | None:
    """Writes the page and the curves beside a sweep; returns the page's place, None without one."""
    for name in {PAGE, CURVES} & files.keys():
        store_at(sweep).write(name, _encoded(files[name]))
    return f"{store_at(sweep).place}/{PAGE}" if PAGE in files else None


def write_file(path: Path, content: str | bytes) -> None:
    """Writes a file whole or not at all."""
    with atomic_file(path) as file:
        file.write(_encoded(content))


def _encoded(content: str | bytes) -> bytes:
    return content.encode() if isinstance(content, str) else content


@dataclass(frozen=True)
class Spread:
    """A Spread holds the variances of a difference, and where they are from.

    Attributes:
        variances: of a difference of two rows.
        source: in words, e.g. "of the sweep 'similarities'".
    """

    variances: Variances
    source: str


USUAL_SPREAD = Spread(
    Variances(2 * SEED**2, 2 * (SEED_ON_SEQUENCE**2 + PAIR**2 / 5)), "that was measured on HPatches, MMA@3"
)


def spread_of(report: Report) -> Spread | None:
    """Returns the medians over the differences of a sweep; None unless a row and its baseline have two seeds.

    Args:
        report: of the sweep.
    """
    rows = [report.difference(row.name) for row in report.compared_variants]
    known = [row.variances for row in rows if row is not None and row.variances is not None]
    if not known:
        return None
    parts = np.median([(one.seed, one.cell, one.sequence) for one in known], axis=0)
    return Spread(Variances(*map(float, parts)), f"of the sweep '{report.about.title}'")


def known_spread(settings: Settings, like: SweepDefinition) -> Spread:
    """Returns the spread of the largest other sweep that was decided by the same score and protocol.

    Args:
        settings: where sweeps lie.
        like: the sweep that is planned.
    """
    found = []
    for name in sweep_names(settings.sweeps):
        stored = StoredSweep(settings.sweep(name))
        try:
            if name != like.name and _is_alike(stored.definition, like):
                found.append((len(stored.trials()), name, stored))
        except ValueError as error:
            log.info("the sweep '%s' cannot be read: %s", name, error)
    for _, name, stored in sorted(found, key=lambda one: one[:2], reverse=True)[:_MOST_READ]:
        try:
            spread = spread_of(sweep_report(stored))
        except ValueError as error:
            log.info("the spread of the sweep '%s' is unknown: %s", name, error)
            continue
        if spread is not None:
            return spread
    return USUAL_SPREAD


def _is_alike(definition: SweepDefinition, like: SweepDefinition) -> bool:
    def protocol(one: SweepDefinition) -> str:
        return one.benchmarks.get(one.role, {}).get("protocol_digest", "")

    return (definition.metric, protocol(definition)) == (like.metric, protocol(like))
