"""Defines variants: what a table compares, and what makes two of them comparable."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from evaluation.benchmarks.hpatches import Split
from evaluation.evaluation import Evaluation, PairScore
from evaluation.metrics.pair_metrics import find_pair_metric
from evaluation.statistics.contrasts import Scores

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Variant:
    """A Variant holds the evaluations of one loss, one for each seed it was trained with.

    Attributes:
        name: as in the table.
        evaluations: at least one, of different networks, all judged alike.
        seeds: of the evaluations, in their order; None if unknown (a released network). Two variants with the
            same seeds are compared seed by seed: equal seeds mean equal starting weights and training pairs.
        epochs: that its networks were trained for, in any order; 0 of a starting network; empty if unknown.
        as_asked: whether the number of epochs is what the variants were made to differ in, and all have them.
        collapsed: whether any of its networks has.
        warnings: what spoils its figures, in sentences: signs of collapse, or a training that was not as
            configured.
    """

    name: str
    evaluations: tuple[Evaluation, ...]
    seeds: tuple[int, ...] | None = None
    epochs: tuple[int, ...] = ()
    as_asked: bool = False
    collapsed: bool = False
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.evaluations:
            raise ValueError(f"variant {self.name!r} has no evaluation")
        networks = len(self.evaluations)
        digest, times = Counter(one.model_digest for one in self.evaluations).most_common(1)[0]
        if times > 1:
            raise ValueError(
                f"variant {self.name!r} holds network {digest[:12]} {times} times; a network counts once"
            )
        if self.seeds is not None and not len(set(self.seeds)) == len(self.seeds) == networks:
            raise ValueError(
                f"variant {self.name!r} has the seeds {list(self.seeds)} for {networks} evaluation(s); "
                "each needs a seed of its own"
            )
        for evaluation in self.evaluations:
            refuse_unlike(self.name, evaluation, self.name, self.evaluations[0])

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
        columns = [[find_pair_metric(metric).of(pairs) for metric in metrics] for pairs in found]
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


def refuse_unlike(name: str, evaluation: Evaluation, other_name: str, other: Evaluation) -> None:
    """Refuses to put two numbers side by side that were not measured alike.

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
