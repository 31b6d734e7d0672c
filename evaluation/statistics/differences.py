"""Holds a comparison: means of variants, differences to a baseline, and what is known of their error."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from evaluation.benchmarks.hpatches import Split
from evaluation.evaluation import OVERALL
from evaluation.protocols import Protocol
from evaluation.statistics.power import Variances

# The first three are about variants and need two seeds on both sides; the next two are answers to a question
# that was asked before the first score (`evaluation.statistics.rounds`); the next two are about the very
# networks that were scored; the last three say why there is no verdict.
Verdict = Literal[
    "better",
    "worse",
    "no difference shown",
    "equivalent",
    "undecided",
    "these networks differ",
    "seeds needed",
    "unequal training",
    "collapsed",
    "baseline collapsed",
]


@dataclass(frozen=True)
class Mean:
    """A Mean is the mean score of one variant.

    Attributes:
        variant: its name.
        split: "overall", "illumination" or "viewpoint".
        metric: a key of `evaluation.metrics.pair_metrics.PAIR_METRICS`, e.g. `mma_3px`.
        mean: over pairs and seeds.
        low, high: 95 % interval, of a share within [0, 1]; None with a single sequence.
        seeds: how many.
        sequences: how many.
        covers_seeds: whether the interval says what another seed would do; with one seed it speaks of this
            network on other sequences.
    """

    variant: str
    split: str
    metric: str
    mean: float
    low: float | None
    high: float | None
    seeds: int
    sequences: int
    covers_seeds: bool


@dataclass(frozen=True)
class Difference:
    """A Difference says how far the mean score of one variant lies above that of the baseline.

    Attributes:
        variant, baseline: their names.
        split: "overall", "illumination" or "viewpoint".
        metric: as in `Mean`.
        estimate: the difference of the means.
        low, high: 95 % interval, not corrected for the number of variants; None with a single sequence.
        p: two-sided p-value; None with a single sequence.
        p_holm: the same after Holm's correction over the differences of this split and metric; None with a
            single sequence, or if nothing is tested.
        verdict: "better" or "worse" if `p_holm` is below 0.05; a smaller error is better. "these networks
            differ" if it is, but a side has one network only: nothing is known of other seeds, and "seeds
            needed" if it is not. Nothing is tested where one side was trained for more epochs than the other,
            or where one has collapsed.
        sequences: how many.
        same_seeds: whether they were compared seed by seed.
        covers_seeds: whether both have more than one seed, so that the interval covers other seeds.
        variances: the variance components of the error; None with a single sequence, or unless seeds are
            covered.
    """

    variant: str
    baseline: str
    split: str
    metric: str
    estimate: float
    low: float | None
    high: float | None
    p: float | None
    p_holm: float | None
    verdict: Verdict
    sequences: int
    same_seeds: bool
    covers_seeds: bool
    variances: Variances | None = None


@dataclass(frozen=True)
class SequenceDifference:
    """A SequenceDifference shows where a variant wins: its difference to the baseline on one sequence.

    Attributes:
        variant, baseline: their names.
        sequence: its name.
        split: of the sequence.
        metric: as in `Mean`. What a sequence adds to an AUC depends on the other sequences.
        mean: of the variant, over seeds and pairs.
        estimate: difference to the baseline.
        standard_error: of the estimate, over seeds; None unless both have more than one seed.
    """

    variant: str
    baseline: str
    sequence: str
    split: Split | None
    metric: str
    mean: float
    estimate: float
    standard_error: float | None


@dataclass(frozen=True)
class Comparison:
    """A Comparison compares each variant of one benchmark and protocol with its baseline.

    Attributes:
        baselines: the baseline of each variant that has one, by the variant's name.
        protocol: how all were scored.
        benchmark, benchmark_digest: on what.
        means: by variant, split, metric; those without a baseline among them.
        differences: by variant, split, metric; of those with a baseline.
        by_sequence: by variant, sequence, metric; of those with a baseline.
        left_out: how many pairs count in no variant, because they have no number in one of them, by metric.
    """

    baselines: Mapping[str, str]
    protocol: Protocol
    benchmark: str
    benchmark_digest: str
    means: tuple[Mean, ...]
    differences: tuple[Difference, ...]
    by_sequence: tuple[SequenceDifference, ...]
    left_out: Mapping[str, int] = field(default_factory=dict)

    @property
    def baseline(self) -> str:
        """Returns the name of the baseline, or of all of them, in the order of the variants."""
        return " / ".join(dict.fromkeys(self.baselines.values()))

    def mean(self, variant: str, metric: str, split: str = OVERALL) -> Mean:
        """Finds one of the means; KeyError if there is none."""
        wanted = (variant, metric, split)
        return {(row.variant, row.metric, row.split): row for row in self.means}[wanted]

    def difference(self, variant: str, metric: str, split: str = OVERALL) -> Difference:
        """Finds one of the differences; KeyError if there is none."""
        wanted = (variant, metric, split)
        return {(row.variant, row.metric, row.split): row for row in self.differences}[wanted]

    def to_rows(self) -> dict[str, list[dict[str, Any]]]:
        """Returns the tables `means`, `differences` and `by_sequence` as what `json.dumps` takes."""
        return {
            "means": [asdict(row) for row in self.means],
            "differences": [asdict(row) for row in self.differences],
            "by_sequence": [asdict(row) for row in self.by_sequence],
        }
