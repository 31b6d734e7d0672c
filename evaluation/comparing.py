"""Comparing: variants become a comparison, which says which differences are real."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evaluation.bootstrap import ALPHA, REPLICATES, Estimates, estimate, holm
from evaluation.comparison import Comparison, Difference, Mean, SequenceDifference, Verdict
from evaluation.evaluation import OVERALL, SCALAR_THRESHOLDS
from evaluation.hpatches import SPLITS
from evaluation.mma import THRESHOLDS
from evaluation.pair_metrics import PairMetric, find_pair_metric
from evaluation.power import Variances
from evaluation.variants import Contrast, Variant, contrast, refuse_unlike

# What every comparison shows, and the curve over all thresholds.
COMPARED = tuple(f"mma_{threshold}px" for threshold in SCALAR_THRESHOLDS)
CURVE = tuple(f"mma_{threshold}px" for threshold in THRESHOLDS)


def compare(
    variants: Sequence[Variant],
    baseline: str | Mapping[str, str],
    metrics: Sequence[str] = COMPARED,
    replicates: int = REPLICATES,
) -> Comparison:
    """Says which variants differ from their baselines, and by how much.

    `evaluation.bootstrap` states what the intervals cover. The sequences drawn are the same for all variants;
    seeds are paired where both have the same. Holm's correction is over all differences of a table that are
    tested.

    Args:
        variants: the baselines among them, all judged alike.
        baseline: the name of the one that all others are compared with; or the name of each variant's own,
            where a variant that is not a key is compared with nothing.
        metrics: keys of `evaluation.pair_metrics.PAIR_METRICS`.
        replicates: how many draws of the bootstrap.

    Raises:
        ValueError: if they were not judged alike (other protocol, benchmark or pairs), if names are not
            unique, if the baseline or a metric is unknown, or if a metric was not computed for every pair.
    """
    for metric in metrics:
        find_pair_metric(metric)
    named = _named(variants)
    baselines = _baselines(named, baseline)
    reference = named[next(iter(baselines.values()))] if baselines else variants[0]
    for variant in variants:
        refuse_unlike(variant.name, variant.evaluations[0], reference.name, reference.evaluations[0])
    pairs = [(named[name], named[other]) for name, other in baselines.items()]
    means: list[Mean] = []
    differences: list[Difference] = []
    for part in _parts(reference):
        for variant in variants:
            means += _means(variant, part, metrics, replicates)
        differences += _differences(pairs, part, metrics, replicates)
    return Comparison(
        baselines,
        reference.evaluations[0].protocol,
        reference.evaluations[0].benchmark,
        reference.evaluations[0].benchmark_digest,
        tuple(means),
        tuple(differences),
        tuple(row for variant, other in pairs for row in _by_sequence(variant, other, metrics)),
    )


def _named(variants: Sequence[Variant]) -> dict[str, Variant]:
    """The variants by name, which must differ."""
    named = {variant.name: variant for variant in variants}
    if len(named) != len(variants):
        raise ValueError(
            f"the names of variants must differ: {', '.join(variant.name for variant in variants)}"
        )
    return named


def _baselines(names: Collection[str], baseline: str | Mapping[str, str]) -> dict[str, str]:
    """The baseline of each variant that has one, in the order of the variants."""
    own = baseline if isinstance(baseline, Mapping) else dict.fromkeys(names, baseline)
    wanted = (*own, *own.values()) if isinstance(baseline, Mapping) else (baseline,)
    for name in wanted:
        if name not in names:
            raise ValueError(f"unknown baseline {name!r}; known: {', '.join(sorted(names)) or 'no variant'}")
    return {name: own[name] for name in names if own.get(name, name) != name}


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
    pairs: Sequence[tuple[Variant, Variant]], part: _Part, metrics: Sequence[str], replicates: int
) -> list[Difference]:
    """Of all variants with their baselines together, because Holm's correction is over them."""
    contrasts = [contrast(variant, baseline, metrics, part.chosen) for variant, baseline in pairs]
    found = [estimate(one.samples, replicates) for one in contrasts]
    corrected = np.full((len(pairs), len(metrics)), np.nan)
    hindrances = [_hindrance(variant, baseline) for variant, baseline in pairs]
    tested = [index for index, hindrance in enumerate(hindrances) if hindrance is None]
    if tested:
        corrected[tested] = holm(np.array([found[index].p for index in tested]))
    rows = zip(pairs, contrasts, found, corrected, hindrances, strict=True)
    return [
        Difference(
            variant=variant.name,
            baseline=baseline.name,
            split=part.name,
            metric=metric,
            estimate=float(estimates.value[index]),
            low=_known(estimates.low[index]),
            high=_known(estimates.high[index]),
            p=_known(estimates.p[index]),
            p_holm=_known(p_holm[index]),
            verdict=hindrance
            or _verdict(find_pair_metric(metric), estimates.value[index], p_holm[index], one.covers_seeds),
            sequences=part.sequences,
            same_seeds=one.same_seeds,
            covers_seeds=one.covers_seeds,
            variances=_variances(estimates, index, one, part.sequences),
        )
        for (variant, baseline), one, estimates, p_holm, hindrance in rows
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


def _variances(found: Estimates, column: int, one: Contrast, sequences: int) -> Variances | None:
    """The variances of the model from those of the means."""
    if not one.covers_seeds or sequences < 2:
        return None
    seeds = min(len(sample) for sample in one.samples)
    between, residual, beyond = (part[column] for part in (found.between, found.residual, found.beyond))
    return Variances(
        seed=float(max(between - residual, 0) * seeds),
        cell=float(residual * seeds * sequences),
        sequence=float(beyond * sequences),
    )


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _hindrance(variant: Variant, baseline: Variant) -> Verdict | None:
    """Why nothing can be said of two variants, whatever their figures are; None if something can."""
    if variant.collapsed:
        return "collapsed"
    if baseline.collapsed:
        return "baseline collapsed"
    # A starting network is what it is; it stands in a table to show what training does.
    epochs = {epochs for one in (variant, baseline) for epochs in one.epochs if epochs}
    if len(epochs) > 1 or variant.warnings or baseline.warnings:
        return "unequal training"
    return None


def _verdict(metric: PairMetric, estimate: float, p: float, covers_seeds: bool) -> Verdict:
    # NaN, the p-value of a single sequence, is not below anything.
    if not covers_seeds:
        return "these networks differ" if p < ALPHA else "seeds needed"
    if p < ALPHA:
        return "better" if (estimate > 0) != metric.smaller_is_better else "worse"
    return "no difference shown"
