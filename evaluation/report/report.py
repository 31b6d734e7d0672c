"""Defines Report: a comparison with all that a reader needs to judge it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from evaluation.evaluation import OVERALL
from evaluation.pictures.examples import MatchExample
from evaluation.statistics.differences import Comparison, Difference, Mean, SequenceDifference
from evaluation.statistics.variants import Curve, Variant
from r2d2.training.metrics import LOSSES


@dataclass(frozen=True)
class About:
    """An About says what a report is about, and how it was made.

    Attributes:
        title: of the page.
        question: what was asked; may be empty.
        role: of the benchmark in a sweep, e.g. `validation`; empty outside of one.
        metric: the metric that is compared first and orders the table, a key of `PAIR_METRICS`.
        split: "overall", "illumination" or "viewpoint", of the same figure.
        sort_by: another figure that orders the table instead, a key of `Variant.figures`; empty: none.
        ascending: whether the smallest of it is the best.
        standing: how far the trainings have come, a sentence; empty if they have ended.
        unscored: rows that others are to be compared with and that have no score yet.
        command: makes the report again.
        code_version: of the code that made it.
    """

    title: str
    question: str = ""
    role: str = ""
    metric: str = "mma_3px"
    split: str = OVERALL
    sort_by: str = ""
    ascending: bool = False
    standing: str = ""
    unscored: tuple[str, ...] = ()
    command: str = ""
    code_version: str = ""


@dataclass(frozen=True)
class Report:
    """A Report holds a comparison with its curves, examples, answer and cautions.

    Attributes:
        comparison: the comparison of the rows with scores; None without any.
        curves: means at 1 to 15 pixels.
        entries: all rows, the best first; those without a score come last.
        examples: name of a variant and a pair matched by its first network.
        answer: two sentences: who is highest and whether that is shown; what it would take to show it.
        finding: what the comparison shows: how many rows got which verdict.
        cautions: what every reader must know, in sentences.
    """

    about: About
    comparison: Comparison | None
    curves: tuple[Mean, ...]
    entries: tuple[Variant, ...]
    examples: tuple[tuple[str, MatchExample], ...] = field(default=(), repr=False)
    answer: tuple[str, ...] = ()
    finding: str = ""
    cautions: tuple[str, ...] = ()

    @property
    def means(self) -> tuple[Mean, ...]:
        """Returns the means of the comparison; nothing without one."""
        return self.comparison.means if self.comparison is not None else ()

    @property
    def scored(self) -> list[Variant]:
        """Returns the rows that have scores, the best first."""
        return [entry for entry in self.entries if entry.evaluations]

    @property
    def splits(self) -> list[str]:
        """Returns the splits that the benchmark has, `overall` first."""
        return list(dict.fromkeys(row.split for row in self.means))

    @property
    def compared(self) -> list[str]:
        """Returns the metrics that have intervals and differences, in the order of the tables."""
        return list(dict.fromkeys(row.metric for row in self.means))

    @property
    def metrics(self) -> list[str]:
        """Returns the further figures that any variant has, in order; MMA has tables of its own."""
        known = dict.fromkeys(key for entry in self.entries for key in entry.figures)
        return [key for key in known if not key.startswith("mma_")]

    @property
    def of_training(self) -> list[str]:
        """Returns the further figures of other benchmarks and of the training, but for the total loss."""
        return [key for key in self.metrics if "/" in key and key not in (LOSSES[0], self.about.sort_by)]

    @property
    def baselines(self) -> dict[str, str]:
        """Returns the baseline of each row that has one, by the row's name."""
        return dict(self.comparison.baselines) if self.comparison is not None else {}

    def mean(self, variant: str, split: str | None = None, metric: str | None = None) -> Mean | None:
        """Returns the mean of a row, by default of the first figure of the table; None without a score."""
        wanted = (variant, metric or self.about.metric, split or self.about.split)
        return next((row for row in self.means if (row.variant, row.metric, row.split) == wanted), None)

    def difference(
        self, variant: str, split: str | None = None, metric: str | None = None
    ) -> Difference | None:
        """Returns the difference of a variant from its baseline; None if it is compared with nothing."""
        if self.comparison is None or variant not in self.baselines:
            return None
        return self.comparison.difference(variant, metric or self.about.metric, split or self.about.split)

    def by_sequence(self, variant: str) -> list[SequenceDifference]:
        """Returns where a variant wins: its differences in the first metric and split, the best first."""
        wanted = [
            row
            for row in (self.comparison.by_sequence if self.comparison is not None else ())
            if (row.variant, row.metric) == (variant, self.about.metric)
            and self.about.split in (OVERALL, row.split)
        ]
        return sorted(wanted, key=lambda row: -row.estimate)

    @property
    def has_several_baselines(self) -> bool:
        """Says whether rows are compared with different ones."""
        return len(set(self.baselines.values())) > 1

    @property
    def compared_entries(self) -> list[Variant]:
        """Returns the variants that have a baseline, the best first."""
        return [entry for entry in self.entries if entry.name in self.baselines]

    def words(self, variant: str) -> str:
        """Returns a variant's verdict in the first figure of the table, or that it is a baseline."""
        row = self.difference(variant)
        if row is not None:
            return row.verdict
        return "baseline" if variant in self.baselines.values() else ""

    def training(self) -> Iterator[tuple[str, list[tuple[Variant, int | None, Curve]]]]:
        """Returns the figures that trainings followed: name, and row, seed and curve of each."""
        for metric in dict.fromkeys(key for one in self.entries for curves in one.curves for key in curves):
            yield (
                metric,
                [
                    (entry, entry.seeds[place] if entry.seeds else None, curves[metric])
                    for entry in self.entries
                    for place, curves in enumerate(entry.curves)
                    if metric in curves
                ],
            )
