"""The comparison table of a sweep, made from what its trials wrote down."""

from __future__ import annotations

import csv
import io
import math
import statistics
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from evaluation.report.headings import heading as metric_words
from evaluation.report.report import MARK
from evaluation.report.text import markdown_table
from r2d2.printable import csv_cell
from runner.record.history import TRAIN, Record

COLUMNS = (
    "validation/mma_1px",
    "validation/mma_3px",
    "validation/mma_5px",
    "hpatches/mma_1px",
    "hpatches/mma_3px",
    "train/loss_reliability",
    "train/loss_similarity",
    "train/loss_peakiness",
)


@dataclass(frozen=True)
class Outcome:
    """Where one trial or baseline stands: its figures at its last epoch, not at its best one."""

    key: str
    variant: str
    seed: int
    epoch: int
    metrics: Mapping[str, float]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Row:
    """One variant: its outcomes over the seeds."""

    variant: str
    outcomes: tuple[Outcome, ...]

    def mean(self, metric: str) -> float:
        """Mean over the seeds that have the metric; NaN if none has."""
        values = self._values(metric)
        return statistics.fmean(values) if values else math.nan

    def deviation(self, metric: str) -> float:
        """Standard deviation over seeds; NaN with fewer than two."""
        values = self._values(metric)
        return statistics.stdev(values) if len(values) > 1 else math.nan

    @property
    def warnings(self) -> tuple[str, ...]:
        """What spoils the figures of any of its trials."""
        return tuple(dict.fromkeys(w for outcome in self.outcomes for w in outcome.warnings))

    @property
    def epochs(self) -> str:
        """The last epoch, or the range over seeds."""
        epochs = sorted({o.epoch for o in self.outcomes})
        return str(epochs[0]) if len(epochs) == 1 else f"{epochs[0]}-{epochs[-1]}"

    def _values(self, metric: str) -> list[float]:
        values = [o.metrics[metric] for o in self.outcomes if metric in o.metrics]
        return [v for v in values if not math.isnan(v)]


def latest(records: Sequence[Record]) -> tuple[int, dict[str, float]]:
    """The last epoch that was scored (or trained, if none was) and all metrics of that epoch."""
    scored = [r.epoch for r in records if r.kind != TRAIN and r.error is None]
    epoch = max(scored or [r.epoch for r in records] or [0])
    return epoch, figures_at(records, epoch)


def figures_at(records: Sequence[Record], epoch: int) -> dict[str, float]:
    """All metrics of an epoch."""
    return {key: value for r in records if r.epoch == epoch for key, value in r.metrics.items()}


def rows(
    outcomes: Sequence[Outcome], metric: str, mode: str, below: Collection[str] = frozenset()
) -> list[Row]:
    """Outcomes grouped by variant, the best mean first; variants without a score come last.

    Args:
        outcomes: of all trials.
        metric: that orders the rows.
        mode: "max" or "min".
        below: variants of fewer epochs than others, against which they cannot be ranked.
    """
    groups: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        groups.setdefault(outcome.variant, []).append(outcome)
    made = [Row(variant, tuple(members)) for variant, members in groups.items()]
    sign = -1 if mode == "max" else 1

    def place(row: Row) -> tuple[bool, bool, float]:
        mean = row.mean(metric)
        return math.isnan(mean), row.variant in below, sign * mean

    return sorted(made, key=place)


def columns(table: Sequence[Row], metric: str) -> list[str]:
    """The metrics shown: the deciding one first, then the usual ones that some row has."""
    usual = [c for c in COLUMNS if c != metric and any(not math.isnan(row.mean(c)) for row in table)]
    return [metric, *usual]


def heading(metric: str, separator: str = " ") -> str:
    """A metric's name as a column heading, e.g. `validation MMA@3`, `loss peakiness`."""
    role, _, name = metric.replace("train/loss_", "loss/").rpartition("/")
    return f"{role}{separator}{metric_words(name)}"


def cell(row: Row, metric: str) -> str:
    """Mean, the standard deviation over seeds where there are two or more, and a mark if it is spoilt."""
    mean, deviation = row.mean(metric), row.deviation(metric)
    if math.isnan(mean):
        return "-"
    spread = "" if math.isnan(deviation) else f" ±{deviation:.3f}"
    return f"{mean:.3f}{spread}{MARK if row.warnings else ''}"


def to_csv(table: Sequence[Row], metric: str) -> str:
    """The table, one line per variant: mean, standard deviation and number of seeds."""
    shown = columns(table, metric)
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(
        ["variant", "seeds", "epochs", *(f"{c} {s}" for c in shown for s in ("mean", "std")), "warnings"]
    )
    for row in table:
        figures = [f"{x:.6f}" for c in shown for x in (row.mean(c), row.deviation(c))]
        words = [csv_cell(text) for text in (row.variant, "; ".join(row.warnings))]
        writer.writerow([words[0], len(row.outcomes), row.epochs, *figures, words[1]])
    return buffer.getvalue()


def to_markdown(table: Sequence[Row], metric: str) -> str:
    """The table as Markdown, with the warnings below it."""
    shown = columns(table, metric)
    head = ["variant", "seeds", "epochs", *(heading(column) for column in shown)]
    cells = [[r.variant, str(len(r.outcomes)), r.epochs, *(cell(r, c) for c in shown)] for r in table]
    lines = [markdown_table(head, cells), ""]
    lines += [f"- {MARK} {row.variant}: {w}" for row in table for w in row.warnings]
    return "\n".join(lines).rstrip() + "\n"
