"""Defines the verb power: what a sweep of so many seeds can show."""

from __future__ import annotations

import click

from runner.settings import Settings
from runner.terminal.console import make_console
from runner.terminal.fitted_table import Column, FittedTable

_SEEDS = (2, 3, 4, 5, 6, 8, 10, 12, 16, 20)
_GAINS = (0.005, 0.01, 0.02, 0.03)


@click.command()
@click.argument("sweep")
@click.option(
    "--gain",
    "gains",
    type=click.FloatRange(0, 1, min_open=True),
    multiple=True,
    help="True gain of the sweep's metric; several are columns [default: 0.005, 0.01, 0.02, 0.03].",
)
def power(sweep: str, gains: tuple[float, ...]) -> None:
    """Show how often a true gain is called better, by the number of seeds of each row of SWEEP.

    The spread of scores over seeds and sequences is that of the sweep's own scores, or of the largest other
    sweep that is scored alike. The shares hold after Holm's correction for the number of rows.
    """
    from evaluation.statistics.power import power as share
    from runner.compare.report import sweep_report
    from runner.compare.spread import known_spread, spread_of
    from runner.record.sweep import StoredSweep

    settings, console = Settings.from_environment(), make_console()
    stored = StoredSweep(settings.sweep(sweep))
    definition = stored.definition
    report = sweep_report(stored)
    scored = report.mean(report.entries[0].name)
    if scored is None:
        raise ValueError(
            f"the sweep '{sweep}' has no score yet: nobody knows how many sequences it is scored on"
        )
    variants, sequences = max(1, len(report.compared_entries)), scored.sequences
    spread = spread_of(report) or known_spread(settings, definition)
    table = FittedTable(["seeds", *(Column(f"gain {gain:g}", rank=0) for gain in gains or _GAINS)])
    for seeds in _SEEDS:
        shares = (share(gain, spread.variances, variants, seeds, sequences) for gain in gains or _GAINS)
        table.add_row(str(seeds), *(f"{one:.0%}" for one in shares))
    console.print(table)
    console.print(
        f"{definition.metric}, {variants} compared rows, {sequences} sequences; the spread of scores "
        f"{spread.source}.",
        soft_wrap=True,
        highlight=False,
    )
