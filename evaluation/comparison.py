"""Comparison: which differences between the variants of a table are real."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from evaluation.bootstrap import ALPHA, REPLICATES, estimate, holm
from evaluation.evaluation import OVERALL, SCALAR_THRESHOLDS
from evaluation.hpatches import SPLITS, Split
from evaluation.mma import THRESHOLDS
from evaluation.protocols import Protocol
from evaluation.variants import Contrast, Variant, contrast, refuse_unlike

Floats = npt.NDArray[np.float64]
Verdict = Literal["better", "worse", "no difference shown"]


@dataclass(frozen=True)
class Mean:
    """The mean score of one variant.

    Attributes:
        variant: its name.
        split: "overall", "illumination" or "viewpoint".
        threshold: pixels.
        mean: MMA in [0, 1], mean over seeds.
        low, high: 95 % interval, not cut off at 0 and 1; None with a single sequence.
        seeds: how many.
        sequences: how many.
        covers_seeds: whether the interval says what another seed would do; with one seed it speaks of this
            network on other sequences.
    """

    variant: str
    split: str
    threshold: int
    mean: float
    low: float | None
    high: float | None
    seeds: int
    sequences: int
    covers_seeds: bool


@dataclass(frozen=True)
class Difference:
    """How far the mean score of one variant lies above that of the baseline.

    Attributes:
        variant, baseline: their names.
        split: "overall", "illumination" or "viewpoint".
        threshold: pixels.
        estimate: difference of MMA, in [-1, 1].
        low, high: 95 % interval, not corrected for the number of variants; None with a single sequence.
        p: two-sided p-value; None with a single sequence.
        p_holm: the same after Holm's correction over the variants of this split and threshold.
        verdict: "better" or "worse" if `p_holm` is below 0.05.
        sequences: how many.
        same_seeds: whether they were compared seed by seed.
        covers_seeds: whether both have more than one seed, so that the interval covers other seeds.
    """

    variant: str
    baseline: str
    split: str
    threshold: int
    estimate: float
    low: float | None
    high: float | None
    p: float | None
    p_holm: float | None
    verdict: Verdict
    sequences: int
    same_seeds: bool
    covers_seeds: bool


@dataclass(frozen=True)
class SequenceDifference:
    """Where a variant wins: its difference to the baseline on one sequence.

    Attributes:
        variant, baseline: their names.
        sequence: its name.
        split: of the sequence.
        threshold: pixels.
        mean: MMA of the variant, mean over seeds and pairs.
        estimate: difference of MMA to the baseline.
        standard_error: of the estimate, over seeds; None unless both have more than one seed.
    """

    variant: str
    baseline: str
    sequence: str
    split: Split | None
    threshold: int
    mean: float
    estimate: float
    standard_error: float | None


@dataclass(frozen=True)
class Comparison:
    """Variants of one benchmark and protocol against a baseline.

    Attributes:
        baseline: its name.
        protocol: how all were judged.
        benchmark, benchmark_digest: on what.
        means: by variant, split, threshold; the baseline among them.
        differences: by variant, split, threshold; without the baseline.
        by_sequence: by variant, sequence, threshold; without the baseline.
    """

    baseline: str
    protocol: Protocol
    benchmark: str
    benchmark_digest: str
    means: tuple[Mean, ...]
    differences: tuple[Difference, ...]
    by_sequence: tuple[SequenceDifference, ...]

    def mean(self, variant: str, threshold: int, split: str = OVERALL) -> Mean:
        """One of the means; KeyError if there is none."""
        wanted = (variant, threshold, split)
        return {(row.variant, row.threshold, row.split): row for row in self.means}[wanted]

    def difference(self, variant: str, threshold: int, split: str = OVERALL) -> Difference:
        """One of the differences; KeyError if there is none."""
        wanted = (variant, threshold, split)
        return {(row.variant, row.threshold, row.split): row for row in self.differences}[wanted]

    def to_rows(self) -> dict[str, list[dict[str, Any]]]:
        """The three tables, `means`, `differences` and `by_sequence`, as what `json.dumps` takes."""
        return {
            "means": [asdict(row) for row in self.means],
            "differences": [asdict(row) for row in self.differences],
            "by_sequence": [asdict(row) for row in self.by_sequence],
        }


def compare(
    variants: Sequence[Variant],
    baseline: str,
    thresholds: Sequence[int] = SCALAR_THRESHOLDS,
    replicates: int = REPLICATES,
) -> Comparison:
    """Says which variants differ from the baseline, and by how much.

    `evaluation.bootstrap` states what the intervals cover. The sequences drawn are the same for all variants;
    seeds are paired where both have the same. All differences of a variant to the baseline are the same
    whatever other variants are in the table, except for Holm's correction.

    Args:
        variants: the baseline among them.
        baseline: the name of one of them.
        thresholds: pixels, of 1 to 15.
        replicates: how many draws of the bootstrap.

    Raises:
        ValueError: if they were not judged alike (other protocol, benchmark or pairs), if names are not
            unique, or if the baseline or a threshold is unknown.
    """
    names = [variant.name for variant in variants]
    if baseline not in names:
        raise ValueError(f"unknown baseline {baseline!r}; known: {', '.join(sorted(names)) or 'no variant'}")
    if len(set(names)) != len(names):
        raise ValueError(f"the names of variants must differ: {', '.join(names)}")
    if not set(thresholds) <= set(THRESHOLDS):
        raise ValueError(
            f"thresholds are {list(thresholds)} px; allowed are {THRESHOLDS[0]} to {THRESHOLDS[-1]}"
        )
    reference = variants[names.index(baseline)]
    for variant in variants:
        refuse_unlike(variant.name, variant.evaluations[0], baseline, reference.evaluations[0])
    others = [variant for variant in variants if variant is not reference]
    contrasts = {variant.name: contrast(variant, reference, thresholds) for variant in others}
    means: list[Mean] = []
    differences: list[Difference] = []
    for part in _parts(reference):
        for variant in variants:
            means += _means(variant, part, thresholds, replicates)
        differences += _differences(contrasts, baseline, part, thresholds, replicates)
    return Comparison(
        baseline,
        reference.evaluations[0].protocol,
        reference.evaluations[0].benchmark,
        reference.evaluations[0].benchmark_digest,
        tuple(means),
        tuple(differences),
        tuple(
            row
            for variant in others
            for row in _by_sequence(variant, contrasts[variant.name], baseline, thresholds)
        ),
    )


def mean_curves(variants: Sequence[Variant], replicates: int = REPLICATES) -> tuple[Mean, ...]:
    """The mean of every variant at 1 to 15 pixels with its interval, by split, variant and threshold.

    Args:
        variants: of one comparison, at least one.
        replicates: how many draws of the bootstrap.
    """
    return tuple(
        row
        for part in _parts(variants[0])
        for variant in variants
        for row in _means(variant, part, THRESHOLDS, replicates)
    )


@dataclass(frozen=True)
class _Part:
    """The whole benchmark or a split of it: its name, and which sequences it has, (sequences,)."""

    name: str
    chosen: npt.NDArray[np.bool_]

    @property
    def sequences(self) -> int:
        return int(self.chosen.sum())


def _parts(variant: Variant) -> list[_Part]:
    splits = list(variant.sequences.values())
    parts = [_Part(split, np.array([one == split for one in splits])) for split in SPLITS]
    return [_Part(OVERALL, np.ones(len(splits), dtype=np.bool_)), *(part for part in parts if part.sequences)]


def _means(variant: Variant, part: _Part, thresholds: Sequence[int], replicates: int) -> list[Mean]:
    scores = variant.scores(thresholds)[:, part.chosen]
    found = estimate([scores], replicates)
    return [
        Mean(
            variant=variant.name,
            split=part.name,
            threshold=threshold,
            mean=float(found.value[index]),
            low=_known(found.low[index]),
            high=_known(found.high[index]),
            seeds=len(scores),
            sequences=part.sequences,
            covers_seeds=len(scores) > 1,
        )
        for index, threshold in enumerate(thresholds)
    ]


def _differences(
    contrasts: Mapping[str, Contrast],
    baseline: str,
    part: _Part,
    thresholds: Sequence[int],
    replicates: int,
) -> list[Difference]:
    """Of all variants together, because Holm's correction is over them."""
    if not contrasts:
        return []
    found = [estimate([s[:, part.chosen] for s in one.samples], replicates) for one in contrasts.values()]
    corrected = holm(np.array([estimates.p for estimates in found]))
    return [
        Difference(
            variant=name,
            baseline=baseline,
            split=part.name,
            threshold=threshold,
            estimate=float(estimates.value[index]),
            low=_known(estimates.low[index]),
            high=_known(estimates.high[index]),
            p=_known(estimates.p[index]),
            p_holm=_known(p_holm[index]),
            verdict=_verdict(estimates.value[index], p_holm[index]),
            sequences=part.sequences,
            same_seeds=one.same_seeds,
            covers_seeds=one.covers_seeds,
        )
        for (name, one), estimates, p_holm in zip(contrasts.items(), found, corrected, strict=True)
        for index, threshold in enumerate(thresholds)
    ]


def _by_sequence(
    variant: Variant, against: Contrast, baseline: str, thresholds: Sequence[int]
) -> list[SequenceDifference]:
    means = variant.scores(thresholds).mean(axis=0)
    estimates = np.sum([sample.mean(axis=0) for sample in against.samples], axis=0)
    errors = np.full_like(estimates, np.nan)
    if against.covers_seeds:
        errors = np.sqrt(np.sum([s.var(axis=0, ddof=1) / len(s) for s in against.samples], axis=0))
    return [
        SequenceDifference(
            variant=variant.name,
            baseline=baseline,
            sequence=sequence,
            split=split,
            threshold=threshold,
            mean=float(means[row, column]),
            estimate=float(estimates[row, column]),
            standard_error=_known(errors[row, column]),
        )
        for row, (sequence, split) in enumerate(variant.sequences.items())
        for column, threshold in enumerate(thresholds)
    ]


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _verdict(estimate: float, p: float) -> Verdict:
    # NaN, the p-value of a single sequence, is not below anything.
    if p < ALPHA:
        return "better" if estimate > 0 else "worse"
    return "no difference shown"
