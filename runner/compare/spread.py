"""Finds how far scores scatter over seeds and sequences, as finished sweeps show it."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np

from evaluation.report.report import Report
from evaluation.statistics.power import PAIR, SEED, SEED_ON_SEQUENCE, Variances
from runner.compare.report import sweep_report
from runner.record.definition import SweepDefinition
from runner.record.sweep import StoredSweep, sweep_names
from runner.settings import Settings

log = logging.getLogger(__name__)

# Reports are made of so many sweeps at most, those with the most trials first.
_MOST_READ = 3


@dataclass(frozen=True)
class Spread:
    """A Spread holds the variances of a difference, and where they are from.

    Attributes:
        variances: of a difference of two rows.
        source: in words, e.g. "of the sweep 'similarities'".
    """

    variances: Variances
    source: str


USUAL = Spread(
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
        definition = SweepDefinition.load(stored.store)
        if name != like.name and definition is not None and _is_alike(definition, like):
            found.append((len(stored.trials()), name, stored))
    for _, name, stored in sorted(found, key=lambda one: one[:2], reverse=True)[:_MOST_READ]:
        try:
            spread = spread_of(sweep_report(stored))
        except ValueError as error:
            log.info("the spread of the sweep '%s' is unknown: %s", name, error)
            continue
        if spread is not None:
            return spread
    return USUAL


def _is_alike(definition: SweepDefinition, like: SweepDefinition) -> bool:
    def protocol(one: SweepDefinition) -> str:
        return one.benchmarks.get(one.role, {}).get("protocol_digest", "")

    return (definition.metric, protocol(definition)) == (like.metric, protocol(like))
