"""Comparing: variants become a comparison, which says which differences are real."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evaluation.bootstrap import ALPHA, REPLICATES, estimate, holm
from evaluation.comparison import Comparison, Difference, Mean, SequenceDifference, Verdict
from evaluation.evaluation import OVERALL, SCALAR_THRESHOLDS
from evaluation.hpatches import SPLITS
from evaluation.mma import THRESHOLDS
from evaluation.pair_metrics import PairMetric, find_pair_metric
from evaluation.variants import Contrast, Variant, contrast, refuse_unlike

# What every comparison shows, and the curve over all thresholds.
COMPARED = tuple(f"mma_{threshold}px" for threshold in SCALAR_THRESHOLDS)
CURVE = tuple(f"mma_{threshold}px" for threshold in THRESHOLDS)


def compare(
    variants: Sequence[Variant],
    baseline: str,
    metrics: Sequence[str] = COMPARED,
    replicates: int = REPLICATES,
) -> Comparison:
    """Says which variants differ from the baseline, and by how much.

    `evaluation.bootstrap` states what the intervals cover. The sequences drawn are the same for all variants;
    seeds are paired where both have the same. All differences of a variant to the baseline are the same
    whatever other variants are in the table, except for Holm's correction.

    Args:
        variants: the baseline among them.
        baseline: the name of one of them.
        metrics: keys of `evaluation.pair_metrics.PAIR_METRICS`.
        replicates: how many draws of the bootstrap.

    Raises:
        ValueError: if they were not judged alike (other protocol, benchmark or pairs), if names are not
            unique, if the baseline or a metric is unknown, or if a metric was not computed for every pair.
    """
    names = [variant.name for variant in variants]
    if baseline not in names:
        raise ValueError(f"unknown baseline {baseline!r}; known: {', '.join(sorted(names)) or 'no variant'}")
    if len(set(names)) != len(names):
        raise ValueError(f"the names of variants must differ: {', '.join(names)}")
    for metric in metrics:
        find_pair_metric(metric)
    reference = variants[names.index(baseline)]
    for variant in variants:
        refuse_unlike(variant.name, variant.evaluations[0], baseline, reference.evaluations[0])
    others = [variant for variant in variants if variant is not reference]
    means: list[Mean] = []
    differences: list[Difference] = []
    for part in _parts(reference):
        for variant in variants:
            means += _means(variant, part, metrics, replicates)
        contrasts = {one.name: contrast(one, reference, metrics, part.chosen) for one in others}
        differences += _differences(contrasts, baseline, part, metrics, replicates)
    return Comparison(
        baseline,
        reference.evaluations[0].protocol,
        reference.evaluations[0].benchmark,
        reference.evaluations[0].benchmark_digest,
        tuple(means),
        tuple(differences),
        tuple(row for variant in others for row in _by_sequence(variant, reference, metrics)),
    )


def mean_curves(variants: Sequence[Variant], replicates: int = REPLICATES) -> tuple[Mean, ...]:
    """The mean MMA of every variant at 1 to 15 pixels with its interval, by split, variant and threshold.

    Args:
        variants: of one comparison, at least one.
        replicates: how many draws of the bootstrap.
    """
    return tuple(
        row
        for part in _parts(variants[0])
        for variant in variants
        for row in _means(variant, part, CURVE, replicates)
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


def _means(variant: Variant, part: _Part, metrics: Sequence[str], replicates: int) -> list[Mean]:
    scores = variant.scores(metrics, part.chosen)
    found = estimate([scores], replicates)
    highest = [1.0 if find_pair_metric(metric).is_share else np.inf for metric in metrics]
    # The bootstrap knows nothing of bounds; no metric is negative.
    low, high = np.clip(found.low, 0, highest), np.clip(found.high, 0, highest)
    return [
        Mean(
            variant=variant.name,
            split=part.name,
            metric=metric,
            mean=float(found.value[index]),
            low=_known(low[index]),
            high=_known(high[index]),
            seeds=len(scores),
            sequences=part.sequences,
            covers_seeds=len(scores) > 1,
        )
        for index, metric in enumerate(metrics)
    ]


def _differences(
    contrasts: Mapping[str, Contrast],
    baseline: str,
    part: _Part,
    metrics: Sequence[str],
    replicates: int,
) -> list[Difference]:
    """Of all variants together, because Holm's correction is over them."""
    if not contrasts:
        return []
    found = [estimate(one.samples, replicates) for one in contrasts.values()]
    corrected = holm(np.array([estimates.p for estimates in found]))
    return [
        Difference(
            variant=name,
            baseline=baseline,
            split=part.name,
            metric=metric,
            estimate=float(estimates.value[index]),
            low=_known(estimates.low[index]),
            high=_known(estimates.high[index]),
            p=_known(estimates.p[index]),
            p_holm=_known(p_holm[index]),
            verdict=_verdict(find_pair_metric(metric), estimates.value[index], p_holm[index]),
            sequences=part.sequences,
            same_seeds=one.same_seeds,
            covers_seeds=one.covers_seeds,
        )
        for (name, one), estimates, p_holm in zip(contrasts.items(), found, corrected, strict=True)
        for index, metric in enumerate(metrics)
    ]


def _by_sequence(variant: Variant, baseline: Variant, metrics: Sequence[str]) -> list[SequenceDifference]:
    means = variant.scores(metrics).mean(axis=0)
    against = contrast(variant, baseline, metrics)
    estimates = np.sum([sample.mean(axis=0) for sample in against.samples], axis=0)
    errors = np.full_like(estimates, np.nan)
    if against.covers_seeds:
        errors = np.sqrt(np.sum([s.var(axis=0, ddof=1) / len(s) for s in against.samples], axis=0))
    return [
        SequenceDifference(
            variant=variant.name,
            baseline=baseline.name,
            sequence=sequence,
            split=split,
            metric=metric,
            mean=float(means[row, column]),
            estimate=float(estimates[row, column]),
            standard_error=_known(errors[row, column]),
        )
        for row, (sequence, split) in enumerate(variant.sequences.items())
        for column, metric in enumerate(metrics)
    ]


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _verdict(metric: PairMetric, estimate: float, p: float) -> Verdict:
    # NaN, the p-value of a single sequence, is not below anything.
    if p < ALPHA:
        return "better" if (estimate > 0) != metric.smaller_is_better else "worse"
    return "no difference shown"
