"""Report: a comparison with all that a reader needs to judge it, ready to be written down."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from evaluation.evaluation import OVERALL
from evaluation.pictures.examples import MatchExample
from evaluation.statistics.comparison import Comparison, Difference, Mean, SequenceDifference

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
        answer: two sentences: who is highest and whether that is shown; what it would take to show it.
        finding: what the comparison shows: how many rows got which verdict.
        cautions: what every reader must be told, in sentences.
    """

    about: About
    comparison: Comparison
    curves: tuple[Mean, ...]
    entries: tuple[Entry, ...]
    examples: tuple[tuple[str, MatchExample], ...] = field(default=(), repr=False)
    answer: tuple[str, str] = ("", "")
    finding: str = ""
    cautions: tuple[str, ...] = ()

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
