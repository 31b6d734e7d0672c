"""Sets the scores of variants against those of their baseline, and estimates the error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from evaluation.statistics.bootstrap import Estimates, SeedVariances, estimate
from evaluation.statistics.pooling import LEAST_VARIANTS, Pool, pool
from evaluation.statistics.resampling import REPLICATES

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Scores:
    """Scores hold the mean of every sequence and seed of one variant.

    Attributes:
        values: (seeds, sequences, K): the mean over the pairs of a sequence, in K metrics.
        seeds: of `values`, ascending; None if unknown.
        poolable: whether its seeds may say how those of other variants scatter.
    """

    values: Floats
    seeds: tuple[int, ...] | None
    poolable: bool = True


def contrast(variant: Scores, baseline: Scores) -> tuple[Floats, ...]:
    """Sets the scores of a variant against those of the baseline.

    If only some seeds agree, all are treated as unrelated: the interval may then be too wide, but not too
    narrow.

    Returns:
        samples: (seeds, sequences, K) each, signed: their means add up to the difference. One sample
            where seeds are paired, else one of each side.
    """
    mine, others = variant.values, baseline.values
    if variant.seeds is None or variant.seeds != baseline.seeds:
        # The sign turns the sum of the means into their difference.
        return mine, -others
    # What a seed does to both sides drops out, which makes the interval narrower.
    return (mine - others,)


def covers_seeds(samples: Sequence[Floats]) -> bool:
    """Says whether samples (seeds, sequences, K) have several seeds each, so that others are covered."""
    return min(map(len, samples)) > 1


def estimate_contrasts(
    baseline: Scores, variants: Sequence[Scores], replicates: int = REPLICATES
) -> list[tuple[tuple[Floats, ...], Estimates]]:
    """Estimates the difference of each variant to the baseline; the seeds' variance is pooled over all.

    Args:
        baseline: what all are compared with.
        variants: of the same sequences and metrics.
        replicates: how many draws of the bootstrap.

    Returns:
        for each variant its samples, (seeds, sequences, K) each, as of `contrast`; and what they say.
    """
    rows = [baseline, *variants]
    # Two pools: where seeds are paired, their common effect is taken off the scatter.
    pools = {paired: _Pooled.of(rows, paired) for paired in (True, False)}
    found = []
    for place, variant in enumerate(variants, start=1):
        samples = contrast(variant, baseline)
        seeds = pools[len(samples) == 1].seeds(place, SeedVariances.of(samples))
        found.append((samples, estimate(samples, replicates, seeds)))
    return found


@dataclass(frozen=True)
class _Pooled:
    """The pool of a table, whose first row is the baseline.

    Attributes:
        counts: how many seeds each row has.
        places: rows of the members of the pool.
        pool: None if they are too few.
    """

    counts: tuple[int, ...]
    places: tuple[int, ...]
    pool: Pool | None

    @classmethod
    def of(cls, rows: Sequence[Scores], paired: bool) -> _Pooled:
        counts = tuple(len(row.values) for row in rows)
        places = tuple(
            place
            for place, row in enumerate(rows)
            if row.poolable and counts[place] > 1 and (not paired or row.seeds == rows[0].seeds)
        )
        means = [rows[place].values.mean(axis=1) for place in places]
        return cls(counts, places, pool(means, paired) if len(means) >= LEAST_VARIANTS else None)

    def seeds(self, place: int, own: SeedVariances) -> SeedVariances:
        """What seeds add to the variance of a difference to the baseline: pooled where both are in the pool.

        A side of a single network adds nothing.
        """
        sides = [side for side in (place, 0) if self.counts[side] > 1]
        if self.pool is None or not sides or not set(sides) <= set(self.places):
            return own
        inside = self.pool.members[[self.places.index(side) for side in sides]].all(axis=0)
        # The variance of a mean of R seeds is that of one over R; those of both sides add up.
        between = self.pool.variance * sum(1 / self.counts[side] for side in sides)
        return replace(
            own,
            between=np.where(inside, between, own.between),
            degrees=np.where(inside, self.pool.degrees, own.degrees),
        )
