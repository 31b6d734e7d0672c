"""Report: a comparison with all that a reader needs to judge it, ready to be written down."""

from __future__ import annotations

import math
import statistics
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from evaluation.benchmarks.hpatches import SPLITS
from evaluation.evaluation import OVERALL
from evaluation.pictures.examples import MatchExample
from evaluation.report.findings import answer, cautions, finding
from evaluation.statistics.bootstrap import REPLICATES
from evaluation.statistics.compare import COMPARED, compare, mean_curves
from evaluation.statistics.comparison import Comparison, Difference, Mean, SequenceDifference
from evaluation.statistics.variants import Variant

# Set beside every figure of a variant that has collapsed.
MARK = "†"


@dataclass(frozen=True)
class TrainingCurve:
    """One figure of one training, by epoch.

    Attributes:
        variant: its name.
        seed: of the training.
        metric: e.g. `train/loss_peakiness` or `validation/mma_3px`.
        points: epoch and value, by epoch.
    """

    variant: str
    seed: int | None
    metric: str
    points: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class About:
    """What a report is about, and how it came to be.

    Attributes:
        title: of the page.
        question: what was asked; may be empty.
        role: of the benchmark in a sweep, e.g. `validation`; empty outside of one.
        metric: that is compared first and orders the table, a key of `PAIR_METRICS`.
        split: "overall", "illumination" or "viewpoint", of the same figure.
        sort_by: another figure that orders the table instead, a key of `Entry.figures`; empty: none.
        ascending: whether the smallest of it is the best.
        standing: how far the trainings have come, a sentence; empty if they have ended.
        unscored: rows that others are to be compared with and that have no score yet.
        command: makes the report again.
        code_version: of the code that made it.
        training: the training curves, if they are known.
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
    training: tuple[TrainingCurve, ...] = ()


@dataclass(frozen=True)
class Entry:
    """One variant of a report.

    Attributes:
        name: as in the comparison.
        epochs: how long it was trained; empty if that is unknown.
        networks: name and digest of each of its networks.
        seeds: of the networks; None if they are unknown.
        figures: everything but MMA, the mean over its networks.
        deviations: the standard deviations over networks, where there are two or more.
        warnings: what spoils its figures, in sentences.
        remarks: what the judge noted of its input, in sentences.
    """

    name: str
    epochs: str
    networks: tuple[tuple[str, str], ...]
    seeds: tuple[int, ...] | None
    figures: Mapping[str, float]
    deviations: Mapping[str, float]
    warnings: tuple[str, ...]
    remarks: tuple[str, ...]

    @property
    def mark(self) -> str:
        """What stands beside its figures: a sign if they are spoilt."""
        return MARK if self.warnings else ""


@dataclass(frozen=True)
class Report:
    """A comparison and what belongs to it.

    Attributes:
        curves: means at 1 to 15 pixels.
        entries: all variants, the best first.
        examples: name of a variant and a pair matched by its first network.
    """

    about: About
    comparison: Comparison
    curves: tuple[Mean, ...]
    entries: tuple[Entry, ...]
    examples: tuple[tuple[str, MatchExample], ...] = field(default=(), repr=False)

    @property
    def splits(self) -> list[str]:
        """The splits that the benchmark has, `overall` first."""
        return list(dict.fromkeys(row.split for row in self.comparison.means))

    @property
    def compared(self) -> list[str]:
        """The metrics that have intervals and differences, in the order of the tables."""
        return list(dict.fromkeys(row.metric for row in self.comparison.means))

    @property
    def metrics(self) -> list[str]:
        """The further figures that any variant has, in their order."""
        return list(dict.fromkeys(key for entry in self.entries for key in entry.figures))

    def mean(self, variant: str, split: str | None = None, metric: str | None = None) -> Mean:
        """The mean of a variant; by default the figure that the table shows first."""
        return self.comparison.mean(variant, metric or self.about.metric, split or self.about.split)

    def difference(
        self, variant: str, split: str | None = None, metric: str | None = None
    ) -> Difference | None:
        """The difference of a variant to its baseline; None if it is compared with nothing."""
        if variant not in self.comparison.baselines:
            return None
        return self.comparison.difference(variant, metric or self.about.metric, split or self.about.split)

    def by_sequence(self, variant: str) -> list[SequenceDifference]:
        """Where a variant wins: its differences in the first metric and the first split, the best first."""
        wanted = [
            row
            for row in self.comparison.by_sequence
            if (row.variant, row.metric) == (variant, self.about.metric)
            and self.about.split in (OVERALL, row.split)
        ]
        return sorted(wanted, key=lambda row: -row.estimate)

    @property
    def has_several_baselines(self) -> bool:
        """Whether rows are compared with different ones."""
        return len(set(self.comparison.baselines.values())) > 1

    @property
    def compared_entries(self) -> list[Entry]:
        """The variants that have a baseline, the best first."""
        return [entry for entry in self.entries if entry.name in self.comparison.baselines]

    def words(self, variant: str) -> str:
        """The verdict of a variant in the figure that the table shows first, or that it is a baseline."""
        row = self.difference(variant)
        if row is not None:
            return row.verdict
        return "baseline" if variant in self.comparison.baselines.values() else ""

    @property
    def cautions(self) -> list[str]:
        """What every reader must be told."""
        return cautions(self)

    @property
    def finding(self) -> str:
        """What the comparison shows: how many rows got which verdict."""
        return finding(self)

    @property
    def answer(self) -> tuple[str, str]:
        """Two sentences: who is highest and whether that is shown; what it would take to show it."""
        return answer(self)


def make_report(
    variants: Sequence[Variant],
    baseline: str | Mapping[str, str],
    about: About,
    figures: Mapping[str, Sequence[Mapping[str, float]]] | None = None,
    replicates: int = REPLICATES,
) -> Report:
    """Compares variants and gathers what belongs to the comparison.

    Args:
        variants: the baselines among them, at least one.
        baseline: the name of one of them, or of each variant's own, as `compare` takes them.
        about: what the report is about.
        figures: by variant, further figures of each of its networks, e.g. `train/loss_peakiness`.
        replicates: how many draws of the bootstrap.

    Raises:
        ValueError: as `compare`, and if the benchmark has no sequence of the split, or
            no variant the figure that the table is to be ordered by.
    """
    metrics = COMPARED if about.metric in COMPARED else (about.metric, *COMPARED)
    compared = compare(variants, baseline, metrics, replicates)
    known = {row.split for row in compared.means}
    if about.split not in known:
        raise ValueError(f"benchmark {compared.benchmark} has no {about.split} sequences")
    entries = [_entry(variant, (figures or {}).get(variant.name, ())) for variant in variants]
    report = Report(
        about,
        compared,
        mean_curves(variants, replicates),
        _ordered(entries, about, compared, _shortly_trained(variants)),
    )
    return replace(report, examples=_examples(report, variants))


def _entry(variant: Variant, figures: Sequence[Mapping[str, float]]) -> Entry:
    further = figures or [{}] * len(variant.evaluations)
    own = [
        {key: value for key, value in scored.scalars().items() if not _is_shown_elsewhere(key)}
        for scored in variant.evaluations
    ]
    values: dict[str, list[float]] = {}
    for found in (dict(mine) | dict(others) for mine, others in zip(own, further, strict=True)):
        for key, value in found.items():
            if math.isfinite(value):
                values.setdefault(key, []).append(value)
    return Entry(
        name=variant.name,
        epochs="-".join(map(str, sorted({min(variant.epochs), max(variant.epochs)})))
        if variant.epochs
        else "",
        networks=tuple((scored.model, scored.model_digest) for scored in variant.evaluations),
        seeds=variant.seeds,
        figures={key: statistics.fmean(found) for key, found in values.items()},
        deviations={key: statistics.stdev(found) for key, found in values.items() if len(found) > 1},
        warnings=variant.warnings,
        remarks=tuple(dict.fromkeys(remark for scored in variant.evaluations for remark in scored.warnings)),
    )


def _is_shown_elsewhere(key: str) -> bool:
    """MMA has intervals and tables of its own; the splits of other figures would fill the page."""
    return key.startswith("mma_") or key.endswith(tuple(f"_{split}" for split in SPLITS))


def _shortly_trained(variants: Sequence[Variant]) -> set[str]:
    """Those of fewer epochs than others, against which they cannot be ranked."""
    most = max((epochs for one in variants for epochs in one.epochs), default=0)
    return {one.name for one in variants if 0 < min(one.epochs, default=0) < most and not one.as_asked}


def _ordered(
    entries: Sequence[Entry], about: About, compared: Comparison, below: Collection[str]
) -> tuple[Entry, ...]:
    key = about.sort_by
    if key and not any(key in entry.figures for entry in entries):
        known = sorted(
            {row.metric for row in compared.means} | {k for entry in entries for k in entry.figures}
        )
        raise ValueError(f"no variant has a figure '{key}'; known: {', '.join(known)}")

    sign = 1 if about.ascending else -1

    def place(entry: Entry) -> float:
        if not key:
            return sign * compared.mean(entry.name, about.metric, about.split).mean
        return sign * entry.figures.get(key, math.inf)

    return tuple(
        sorted(entries, key=lambda e: (e.name in below, bool(key) and key not in e.figures, place(e)))
    )


def _examples(report: Report, variants: Sequence[Variant]) -> tuple[tuple[str, MatchExample], ...]:
    """An easy and a hard pair, matched by the best variant, the baseline and the worst one."""
    order = [entry.name for entry in report.entries]
    baselines = list(report.comparison.baselines.values())[:1]
    chosen = list(dict.fromkeys([order[0], *baselines, order[-1]]))
    by_name = {variant.name: variant.evaluations[0].examples for variant in variants}
    kept = [(name, by_name[name]) for name in sorted(chosen, key=order.index)]
    pairs = sorted({(e.sequence, e.image) for _, examples in kept for e in examples})
    shown = dict.fromkeys(pairs[:1] + pairs[-1:])
    return tuple(
        (name, example)
        for pair in shown
        for name, examples in kept
        for example in examples
        if (example.sequence, example.image) == pair
    )
