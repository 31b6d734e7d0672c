"""Defines Report: a comparison of variants, in order, with all that a reader needs to judge it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
        looks: how often networks were scored on a test benchmark, in sentences; empty of other benchmarks.
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
    looks: str = ""


@dataclass(frozen=True)
class Report:
    """A Report holds a comparison with its curves, examples, answer and cautions.

    Attributes:
        comparison: the comparison of the rows with scores; None without any.
        curves: means at 1 to 15 pixels.
        variants: all rows, the best first; those without a score come last.
        examples: name of a variant and a pair matched by its first network.
        answer: two sentences: who is highest and whether that is shown; what it would take to show it.
        finding: what the comparison shows: how many rows got which verdict.
        cautions: what every reader must know, in sentences.
    """

    about: About
    comparison: Comparison | None
    curves: tuple[Mean, ...]
    variants: tuple[Variant, ...]
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
        return [variant for variant in self.variants if variant.evaluations]

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
        known = dict.fromkeys(key for variant in self.variants for key in variant.figures)
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
    def compared_variants(self) -> list[Variant]:
        """Returns the variants that have a baseline, the best first."""
        return [variant for variant in self.variants if variant.name in self.baselines]

    def words(self, variant: str) -> str:
        """Returns a variant's verdict in the first figure of the table, or that it is a baseline."""
        row = self.difference(variant)
        if row is not None:
            return row.verdict
        return "baseline" if variant in self.baselines.values() else ""

    def training(self) -> Iterator[tuple[str, list[tuple[Variant, int | None, Curve]]]]:
        """Returns the figures that trainings followed: name, and row, seed and curve of each."""
        for metric in dict.fromkeys(key for one in self.variants for curves in one.curves for key in curves):
            yield (
                metric,
                [
                    (variant, variant.seeds[place] if variant.seeds else None, curves[metric])
                    for variant in self.variants
                    for place, curves in enumerate(variant.curves)
                    if metric in curves
                ],
            )


def _shortly_trained(variants: Sequence[Variant]) -> set[str]:
    """Those of fewer epochs than others, against which they cannot be ranked."""
    most = max((epochs for one in variants for epochs in one.epochs), default=0)
    return {one.name for one in variants if 0 < min(one.epochs, default=0) < most and not one.as_asked}


def ordered(variants: Sequence[Variant], about: About, compared: Comparison | None) -> tuple[Variant, ...]:
    """Returns the rows, the best first; rows of fewer epochs stand below, those without a figure last.

    Raises:
        ValueError: if no variant has the figure that orders them.
    """
    key = about.sort_by
    if key and not any(key in one.figures for one in variants):
        known = {row.metric for row in compared.means} if compared is not None else set()
        known |= {figure for one in variants for figure in one.figures}
        raise ValueError(f"no variant has a figure '{key}'; known: {', '.join(sorted(known))}")
    ranked = variants if compared is None else [one for one in variants if one.evaluations]
    below = _shortly_trained(ranked)

    def place(one: Variant) -> tuple[bool, bool, float]:
        figure = one.figures.get(key)
        if compared is not None and not one.evaluations:
            figure = None
        elif compared is not None and not key:
            figure = compared.mean(one.name, about.metric, about.split).mean
        if figure is None:
            return True, one.name in below, 0.0
        return False, one.name in below, figure if about.ascending else -figure

    return tuple(sorted(variants, key=place))


def chosen_examples(report: Report) -> tuple[tuple[str, MatchExample], ...]:
    """Returns an easy and a hard pair, matched by the best variant, the baseline and the worst one."""
    by_name = {variant.name: variant.evaluations[0].examples for variant in report.scored}
    order = list(by_name)
    chosen = {order[0], *list(report.baselines.values())[:1], order[-1]}
    kept = [(name, by_name[name]) for name in order if name in chosen]
    pairs = sorted({(e.sequence, e.image) for _, examples in kept for e in examples})
    shown = dict.fromkeys(pairs[:1] + pairs[-1:])
    return tuple(
        (name, example)
        for pair in shown
        for name, examples in kept
        for example in examples
        if (example.sequence, example.image) == pair
    )
