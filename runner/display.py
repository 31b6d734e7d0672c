"""Tables for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from evaluation.comparison import Comparison
from evaluation.evaluation import OVERALL, Evaluation
from runner.table import Row, cell, columns, heading

ONE_SEED = (
    "Where a variant has one seed, its interval says what other images would do to these networks, not what "
    "another seed would do."
)
CAUTION = (
    "Each figure is that of the last epoch, the mean over seeds. Choosing on HPatches is tuning on the test "
    "set: choose by a validation score."
)


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


def evaluation_tables(evaluation: Evaluation) -> list[Table]:
    """Two tables: MMA at 1 to 15 pixels by split, and one row per sequence."""
    settings = evaluation.protocol.name
    curves = Table(
        title=f"{evaluation.model} on {evaluation.benchmark}, protocol {settings}", title_justify="left"
    )
    curves.add_column("MMA at")
    shares = evaluation.table()
    for name in shares:
        curves.add_column(name, justify="right")
    for threshold in range(1, 16):
        curves.add_row(f"{threshold} px", *(f"{values[threshold - 1]:.3f}" for values in shares.values()))
    sequences = Table("sequence", "MMA@1", "MMA@3", "MMA@5", "keypoints", "matches")
    for name in dict.fromkeys(pair.sequence for pair in evaluation.pairs):
        pairs = [pair for pair in evaluation.pairs if pair.sequence == name]
        mma = [f"{sum(p.mma[t - 1] for p in pairs) / len(pairs):.3f}" for t in (1, 3, 5)]
        keypoints = (pairs[0].keypoints1 + sum(p.keypoints2 for p in pairs)) / (len(pairs) + 1)
        sequences.add_row(name, *mma, f"{keypoints:.0f}", f"{sum(p.matches for p in pairs) / len(pairs):.0f}")
    return [curves, sequences]
