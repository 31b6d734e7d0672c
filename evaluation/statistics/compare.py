"""Compares variants: says which differences are real."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from evaluation.benchmarks.hpatches import SPLITS
from evaluation.evaluation import OVERALL, SCALAR_THRESHOLDS
from evaluation.metrics.figure import PairMetric
from evaluation.metrics.mma import THRESHOLDS
from evaluation.metrics.pair_metrics import find_pair_metric
from evaluation.statistics.bootstrap import ALPHA, Estimates, estimate, holm
from evaluation.statistics.contrasts import Scores, contrast, estimate_contrasts
from evaluation.statistics.differences import Comparison, Difference, Mean, SequenceDifference, Verdict
from evaluation.statistics.power import Variances
from evaluation.statistics.resampling import REPLICATES
from evaluation.statistics.variants import Variant, hindrance, refuse_unlike

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

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

    `evaluation.statistics.bootstrap` states what intervals cover. The sequences drawn are the same for all
    variants; seeds are paired where both have the same. Holm's correction is over all differences of a table
    that are tested.

    Args:
        variants: the baselines among them, all scored alike.
        baseline: the name of the one that all others are compared with; or the name of each variant's own,
            where a variant that is not a key is compared with nothing.
        metrics: keys of `evaluation.metrics.pair_metrics.PAIR_METRICS`.
        replicates: how many draws of the bootstrap.

    Raises:
        ValueError: if they were not scored alike (other protocol, benchmark or pairs), if names are not
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
    lacking = _lacking(variants, metrics)
    means: list[Mean] = []
    differences: list[Difference] = []
    for part in _parts(reference, metrics, lacking):
        for variant in variants:
            means += _means(variant, part, replicates)
        differences += _differences(pairs, part, replicates)
    return Comparison(
        baselines,
        reference.evaluations[0].protocol,
        reference.evaluations[0].benchmark,
        reference.evaluations[0].benchmark_digest,
        tuple(means),
        tuple(differences),
        tuple(row for variant, other in pairs for row in _by_sequence(variant, other, metrics, lacking)),
        {one: int(n) for one, n in zip(metrics, lacking.sum(axis=(0, 1)), strict=True) if n},
    )


def _named(variants: Sequence[Variant]) -> dict[str, Variant]:
    """The variants by name, which must differ."""
    named = {variant.name: variant for variant in variants}
    if len(named) != len(variants):
        raise ValueError(f"the names of variants must differ: {', '.join(one.name for one in variants)}")
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
    """Computes the mean MMA of every variant at 1 to 15 pixels with intervals, by split and threshold.

    Args:
        variants: of one comparison, at least one.
        replicates: how many draws of the bootstrap.
    """
    return tuple(
        row
        for part in _parts(variants[0], CURVE, _lacking(variants[:1], CURVE))
        for variant in variants
        for row in _means(variant, part, replicates)
    )


@dataclass(frozen=True)
class _Part:
    """The whole benchmark or a split of it: its name, which sequences it has, (sequences,), and of what.

    Attributes:
        metrics: those that have a number on just these sequences.
        lacking: (all sequences, pairs, metrics), what is left out.
    """

    name: str
    chosen: Bools
    metrics: tuple[str, ...]
    lacking: Bools

    @property
    def sequences(self) -> int:
        return int(self.chosen.sum())

    def scores(self, variant: Variant) -> Scores:
        return variant.scores(self.metrics, self.chosen, self.lacking)


def _lacking(variants: Sequence[Variant], metrics: Sequence[str]) -> Bools:
    """Which pairs have no number in one of the variants, (sequences, pairs, metrics): they count in none."""
    lacking: Bools = np.any([np.isnan(one.numbers(metrics)).any(axis=0) for one in variants], axis=0)
    for column, metric in enumerate(metrics):
        if lacking[..., column].all():
            raise ValueError(f"{metric} cannot be compared: no pair has one in every row")
    return lacking


def _parts(variant: Variant, metrics: Sequence[str], lacking: Bools) -> list[_Part]:
    """The benchmark and its splits, metrics that have numbers on the same sequences together."""
    splits = np.array([str(split) for split in variant.sequences.values()])
    together: dict[bytes, list[int]] = {}
    for column in range(len(metrics)):
        together.setdefault(lacking[..., column].all(axis=1).tobytes(), []).append(column)
    parts = []
    for name in (OVERALL, *SPLITS):
        for columns in together.values():
            usable = ~lacking[..., columns[0]].all(axis=1)
            chosen: Bools = usable & ((splits == name) | (name == OVERALL))
            wanted = tuple(metrics[column] for column in columns)
            parts.append(_Part(name, chosen, wanted, lacking[..., columns]))
    return [part for part in parts if part.sequences]


def _means(variant: Variant, part: _Part, replicates: int) -> list[Mean]:
    scores = part.scores(variant).values
    found = estimate([scores], replicates)
    highest = [find_pair_metric(metric).highest for metric in part.metrics]
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
        for index, metric in enumerate(part.metrics)
    ]


def _differences(pairs: Sequence[tuple[Variant, Variant]], part: _Part, replicates: int) -> list[Difference]:
    """Of all variants with their baselines together, because Holm's correction is over them."""
    hindered = {variant.name: hindrance(variant, baseline) for variant, baseline in pairs}
    found = _estimated(pairs, part, replicates)
    corrected = {name: np.full(len(part.metrics), np.nan) for name in hindered}
    tested = [name for name, why in hindered.items() if why is None]
    if tested:
        p = holm(np.array([found[name].p for name in tested]))
        corrected |= dict(zip(tested, p, strict=True))
    return [
        _difference(variant, baseline, part, column, found[variant.name], corrected[variant.name])
        for variant, baseline in pairs
        for column in range(len(part.metrics))
    ]


def _estimated(
    pairs: Sequence[tuple[Variant, Variant]], part: _Part, replicates: int
) -> dict[str, Estimates]:
    """The difference of each variant, those of one baseline together: the variance of seeds is pooled."""
    found: dict[str, Estimates] = {}
    for baseline in {other.name: other for _, other in pairs}.values():
        variants = [variant for variant, other in pairs if other is baseline]
        scores = [replace(part.scores(one), poolable=_is_poolable(one, baseline)) for one in variants]
        estimates = estimate_contrasts(part.scores(baseline), scores, replicates)
        found |= {one.name: estimated for one, estimated in zip(variants, estimates, strict=True)}
    return found


def _is_poolable(variant: Variant, baseline: Variant) -> bool:
    """Starting networks scatter otherwise than trained ones."""
    return hindrance(variant, baseline) is None and any(variant.epochs) == any(baseline.epochs)


def _difference(
    variant: Variant,
    baseline: Variant,
    part: _Part,
    column: int,
    found: Estimates,
    p_holm: Floats,
) -> Difference:
    metric = find_pair_metric(part.metrics[column])
    low, high = np.clip([found.low[column], found.high[column]], -metric.highest, metric.highest)
    # Of one network nobody knows what another seed would do.
    seeds = min(variant.networks, baseline.networks)
    said = verdict(metric, found.value[column], p_holm[column], seeds > 1)
    return Difference(
        variant=variant.name,
        baseline=baseline.name,
        split=part.name,
        metric=metric.key,
        estimate=float(found.value[column]),
        low=_known(low),
        high=_known(high),
        p=_known(found.p[column]),
        p_holm=_known(p_holm[column]),
        verdict=hindrance(variant, baseline) or said,
        sequences=part.sequences,
        same_seeds=variant.has_seeds_of(baseline),
        covers_seeds=seeds > 1,
        variances=_variances(found, column, seeds, part.sequences),
    )


def _by_sequence(
    variant: Variant, baseline: Variant, metrics: Sequence[str], lacking: Bools
) -> list[SequenceDifference]:
    mine = variant.scores(metrics, lacking=lacking)
    samples = contrast(mine, baseline.scores(metrics, lacking=lacking))
    means = mine.values.mean(axis=0)
    estimates = np.sum([sample.mean(axis=0) for sample in samples], axis=0)
    errors = np.full_like(estimates, np.nan)
    if min(map(len, samples)) > 1:
        errors = np.sqrt(np.sum([s.var(axis=0, ddof=1) / len(s) for s in samples], axis=0))
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
        if not lacking[row, :, column].all()
    ]


def _variances(found: Estimates, column: int, seeds: int, sequences: int) -> Variances | None:
    """The variances of the model from those of the means."""
    if seeds < 2 or sequences < 2:
        return None
    between, residual, beyond = (
        part[column] for part in (found.seeds.between, found.seeds.residual, found.beyond)
    )
    return Variances(
        seed=float(max(between - residual, 0) * seeds),
        cell=float(residual * seeds * sequences),
        sequence=float(beyond * sequences),
    )


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def verdict(metric: PairMetric, estimate: float, p: float, covers: bool) -> Verdict:
    """Says what a corrected p-value means for variants or, with one seed on a side, for these networks."""
    # NaN, the p-value of a single sequence, is not below anything.
    if not covers:
        return "these networks differ" if p < ALPHA else "seeds needed"
    if p < ALPHA:
        return "better" if (estimate > 0) != metric.smaller_is_better else "worse"
    return "no difference shown"
