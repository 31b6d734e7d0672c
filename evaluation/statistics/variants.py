"""Defines the rows of a table, what is known of each, and what makes two of them comparable."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from evaluation.benchmarks.hpatches import SPLITS, Split
from evaluation.evaluation import Evaluation
from evaluation.metrics.pair_metrics import PairScore, find_pair_metric, numbers_of
from evaluation.statistics.contrasts import Scores
from evaluation.statistics.differences import Verdict

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


# Stands beside every figure of a row whose figures are spoilt.
MARK = "†"

# A figure of one training: epoch and value, by epoch.
Curve = tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Variant:
    """A Variant is a row of a table: the networks of one loss, one for each seed it was trained with.

    Attributes:
        name: as in the table.
        evaluations: of different networks, all scored alike; none of a row that has no score yet.
        seeds: of the evaluations, in their order; None if unknown (a released network). Two variants with the
            same seeds are compared seed by seed: equal seeds mean equal starting weights and training pairs.
        epochs: for how many each network was trained, in any order; 0: a starting network; empty: unknown.
        as_asked: whether the variants differ in epochs by design, and this one has been trained for all of
            its own.
        collapsed: whether any of its networks has.
        warnings: what spoils its figures, in sentences: signs of collapse, or a training that was not as
            configured.
        further: other figures of each network, e.g. `train/loss_peakiness`; of all networks or of none.
        curves: the figures that each training followed, by name; of all networks or of none.
        origin: where its networks were found: the sweep, the file, or the name that was given to it.
    """

    name: str
    evaluations: tuple[Evaluation, ...]
    seeds: tuple[int, ...] | None = None
    epochs: tuple[int, ...] = ()
    as_asked: bool = False
    collapsed: bool = False
    warnings: tuple[str, ...] = ()
    further: tuple[Mapping[str, float], ...] = ()
    curves: tuple[Mapping[str, Curve], ...] = ()
    origin: str = ""

    def __post_init__(self) -> None:
        if not self.networks:
            raise ValueError(f"variant {self.name!r} has no evaluation")
        for digest, times in Counter(one.model_digest for one in self.evaluations).items():
            if times > 1:
                raise ValueError(
                    f"variant {self.name!r} holds network {digest[:12]} {times} times; a network counts once"
                )
        if self.seeds is not None and not len(set(self.seeds)) == len(self.seeds) == self.networks:
            raise ValueError(
                f"variant {self.name!r} has the seeds {list(self.seeds)} for {self.networks} evaluation(s); "
                "each needs a seed of its own"
            )
        for evaluation in self.evaluations:
            refuse_unlike(self.name, evaluation, self.name, self.evaluations[0])

    @property
    def networks(self) -> int:
        """Returns how many networks it has, with or without a score."""
        return len(self.evaluations) or len(self.further)

    def has_seeds_of(self, other: Variant) -> bool:
        """Says whether both have the same seeds, by which they are compared."""
        return self.seeds is not None and other.seeds is not None and set(self.seeds) == set(other.seeds)

    @property
    def mark(self) -> str:
        """Returns the sign beside its figures: `MARK` if they are spoilt, else nothing."""
        return MARK if self.warnings else ""

    @property
    def trained_for(self) -> str:
        """Returns how many epochs its networks were trained for: `5`, or `3-5`; empty if unknown."""
        return "-".join(map(str, sorted({min(self.epochs), max(self.epochs)}))) if self.epochs else ""

    @property
    def remarks(self) -> tuple[str, ...]:
        """Returns what the evaluations noted of their input, in sentences."""
        return tuple(dict.fromkeys(remark for scored in self.evaluations for remark in scored.warnings))

    @cached_property
    def by_network(self) -> list[dict[str, float]]:
        """Returns all figures of each network, by name: scores, overall and by split, and `further`."""
        nothing: list[Mapping[str, float]] = [{}] * self.networks
        scored = [one.scalars() for one in self.evaluations]
        return [
            {**mine, **other} for mine, other in zip(scored or nothing, self.further or nothing, strict=True)
        ]

    @cached_property
    def values(self) -> dict[str, list[float]]:
        """Returns every finite figure over all pairs, of all networks, by name."""
        values: dict[str, list[float]] = {}
        for key, value in (item for one in self.by_network for item in one.items()):
            if math.isfinite(value) and not key.endswith(tuple(f"_{split}" for split in SPLITS)):
                values.setdefault(key, []).append(value)
        return values

    @cached_property
    def figures(self) -> dict[str, float]:
        """Returns the mean of every figure over its networks."""
        return {key: statistics.fmean(found) for key, found in self.values.items()}

    @cached_property
    def deviations(self) -> dict[str, float]:
        """Returns the standard deviation of every figure over its networks, if there are two or more."""
        return {key: statistics.stdev(found) for key, found in self.values.items() if len(found) > 1}

    @property
    def sequences(self) -> dict[str, Split | None]:
        """Returns the split of each sequence, sorted by name."""
        return {pair.sequence: pair.split for pair in _sorted_pairs(self.evaluations[0])}

    @cached_property
    def sorted_pairs(self) -> list[list[PairScore]]:
        """Returns the pairs of each evaluation, by sequence and image."""
        return [_sorted_pairs(scored) for scored in self.evaluations]

    def numbers(self, metrics: Sequence[str], chosen: Bools | None = None) -> Floats:
        """Returns the number of every pair; NaN where a pair has none.

        Args:
            metrics: keys of `evaluation.metrics.pair_metrics.PAIR_METRICS`.
            chosen: (sequences,) bool, those that count, as if the benchmark had no other; None: all.

        Returns:
            (seeds, sequences, pairs, metrics): the pairs are those of a sequence.

        Raises:
            ValueError: if sequences have unequally many pairs, so that their mean is not the mean over pairs,
                or if a metric was not computed.
        """
        counts = Counter(pair.sequence for pair in self.evaluations[0].pairs)
        (most, many), (fewest, few) = counts.most_common(1)[0], counts.most_common()[-1]
        if few < many:
            raise ValueError(
                f"sequences have unequally many pairs, {fewest} {few} and {most} {many}; "
                "a comparison needs equally many"
            )
        names = np.array(list(self.sequences))
        wanted = set(names if chosen is None else names[chosen])
        found = [[pair for pair in pairs if pair.sequence in wanted] for pairs in self.sorted_pairs]
        columns = [[numbers_of(find_pair_metric(metric), pairs) for metric in metrics] for pairs in found]
        by_pair = np.array(columns).reshape(len(found), len(metrics), len(wanted), many)
        numbers: Floats = by_pair.transpose(0, 2, 3, 1)
        return numbers

    def scores(
        self, metrics: Sequence[str], chosen: Bools | None = None, lacking: Bools | None = None
    ) -> Scores:
        """Averages the numbers over the pairs of a sequence; the seeds come in ascending order.

        Args:
            metrics: as in `numbers`.
            chosen: (sequences,) bool, as in `numbers`.
            lacking: (sequences, pairs, metrics) bool, what is left out of the means, of all sequences; None:
                nothing. A sequence of which all is left out has the mean NaN.
        """
        numbers = self.numbers(metrics, chosen)
        means = numbers.mean(axis=2)
        if lacking is not None and lacking.any():
            left_out = lacking if chosen is None else lacking[chosen]
            counts = np.maximum((~left_out).sum(axis=1), 1)
            means = np.where(left_out, 0, numbers).sum(axis=2) / counts
            means[:, left_out.all(axis=1)] = np.nan
        order = range(len(means)) if self.seeds is None else np.argsort(self.seeds)
        seeds = None if self.seeds is None else tuple(sorted(self.seeds))
        return Scores(means[list(order)], seeds)


def joined(networks: Sequence[Variant]) -> list[Variant]:
    """Merges networks of one name into one row; rows come in the order of their first networks.

    Raises:
        ValueError: if networks of one row were not scored alike, or share a seed.
    """
    groups: dict[str, list[Variant]] = {}
    for network in networks:
        groups.setdefault(network.name, []).append(network)
    return [
        Variant(
            name,
            tuple(evaluation for one in members for evaluation in one.evaluations),
            _all_or_none([one.seeds for one in members]),
            tuple(epochs for one in members for epochs in one.epochs),
            all(one.as_asked for one in members),
            any(one.collapsed for one in members),
            tuple(dict.fromkeys(warning for one in members for warning in one.warnings)),
            tuple(figures for one in members for figures in one.further),
            tuple(curves for one in members for curves in one.curves),
            members[0].origin,
        )
        for name, members in groups.items()
    ]


def _all_or_none(seeds: Sequence[tuple[int, ...] | None]) -> tuple[int, ...] | None:
    known = [one for one in seeds if one is not None]
    return tuple(seed for one in known for seed in one) if len(known) == len(seeds) else None


def hindrance(variant: Variant, baseline: Variant) -> Verdict | None:
    """Says why there is no verdict on two variants, whatever their figures are; None if there can be one."""
    if variant.collapsed:
        return "collapsed"
    if baseline.collapsed:
        return "baseline collapsed"
    # A starting network is what it is; it stands in a table to show what training does.
    epochs = {epochs for one in (variant, baseline) for epochs in one.epochs if epochs}
    unequal = len(epochs) > 1 and not (variant.as_asked and baseline.as_asked)
    if unequal or variant.warnings or baseline.warnings:
        return "unequal training"
    return None


def refuse_unlike(name: str, evaluation: Evaluation, other_name: str, other: Evaluation) -> None:
    """Refuses to compare two variants that were not measured alike.

    Raises:
        ValueError: says what differs: the protocol's settings, the benchmark or its content, or the pairs.
    """
    refusal = f"cannot compare {name!r} with {other_name!r}: "
    if evaluation.protocol.digest != other.protocol.digest:
        mine, others = (
            _settings({"name": one.protocol.name, **one.protocol.definition}) for one in (evaluation, other)
        )
        different = [
            f"{key} {mine.get(key, 'absent')!s} and {others.get(key, 'absent')!s}"
            for key in mine | others
            if mine.get(key) != others.get(key)
        ]
        raise ValueError(f"{refusal}they were scored by different protocols ({'; '.join(different)})")
    if evaluation.benchmark_digest != other.benchmark_digest:
        raise ValueError(
            f"{refusal}they were scored on different images or homographies (benchmark "
            f"{evaluation.benchmark}, digest {evaluation.benchmark_digest[:12]}, and {other.benchmark}, "
            f"digest {other.benchmark_digest[:12]})"
        )
    pairs, others_pairs = (Counter(_key(pair) for pair in scored.pairs) for scored in (evaluation, other))
    if pairs != others_pairs:
        sequence, image = min((pairs - others_pairs) + (others_pairs - pairs))
        raise ValueError(f"{refusal}only one of them has a score of pair 1-{image} of sequence {sequence!r}")


def _key(pair: PairScore) -> tuple[str, int]:
    return pair.sequence, pair.image


def _sorted_pairs(evaluation: Evaluation) -> list[PairScore]:
    return sorted(evaluation.pairs, key=_key)


def _settings(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested dictionary made flat; `name` and `extraction.top_k` are keys."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        nested = isinstance(value, Mapping)
        flat |= _settings(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}": value}
    return flat
