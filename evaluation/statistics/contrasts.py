"""Sets the scores of variants against those of their baseline, and estimates the error.

The variance of seeds is pooled over all variants of a table. Three seeds of one variant leave two degrees of
freedom, with which Student's distribution asks for a lead of 12.6 standard errors where p is to be below 0.05
/ 8. Trainings of the variants of one table differ in their loss alone: if their seeds scatter alike, n
variants of R seeds have n (R - 1) degrees of freedom together, or (n - 1) (R - 1) where seeds are paired and
what a seed does to all variants is taken off (two-way analysis of variance without replication; Scheffe, The
Analysis of Variance, 1959, chapter 4).

A variant whose seeds scatter more than those of the others does not belong in the pool: the pooled variance
would be too small for it, and it would be called better or worse by chance. Cochran's test finds it (The
distribution of the largest of a set of estimated variances, Annals of Eugenics 1941; ISO 5725-2 uses it in
the same way): the largest variance is compared with those of the others by Fisher's distribution, at LEVEL /
n, and left out if it is too large, until none is. A variant that was left out, and every variant whose
baseline was, keeps the estimate of its own seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from evaluation.statistics.bootstrap import Estimates, SeedVariances, estimate
from evaluation.statistics.resampling import REPLICATES

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

# Of Cochran's test.
LEVEL = 0.05

# With fewer there is nothing to pool.
LEAST_VARIANTS = 3


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


def estimate_contrasts(
    baseline: Scores, variants: Sequence[Scores], replicates: int = REPLICATES
) -> list[Estimates]:
    """Estimates the difference of each variant to the baseline; the seeds' variance is pooled over all.

    Args:
        baseline: what all are compared with.
        variants: of the same sequences and metrics.
        replicates: how many draws of the bootstrap.

    Returns:
        what `contrast` of each variant says.
    """
    rows = [baseline, *variants]
    # Two pools: where seeds are paired, their common effect is taken off the scatter.
    pools = {paired: _Pooled.of(rows, paired) for paired in (True, False)}
    found = []
    for place, variant in enumerate(variants, start=1):
        samples = contrast(variant, baseline)
        seeds = pools[len(samples) == 1].seeds(place, SeedVariances.of(samples))
        found.append(estimate(samples, replicates, seeds))
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


@dataclass(frozen=True)
class Pool:
    """A Pool holds the variance, shared by variants, of one seed's mean over all sequences, in K columns.

    Attributes:
        variance: (K,).
        degrees: (K,), its degrees of freedom.
        members: (n, K), which of the n variants scatter alike; nobody where fewer than three do.
    """

    variance: Floats
    degrees: Floats
    members: Bools


def pool(means: Sequence[Floats], paired: bool) -> Pool:
    """Estimates the variance that the variants have in common.

    Args:
        means: of n variants, (seeds, K) each, at least two seeds; the means over sequences.
        paired: whether row r of all of them is the same seed.
    """
    squares = _two_way if paired else _one_way
    members = np.ones((len(means), means[0].shape[1]), dtype=np.bool_)
    # Who is left out changes what the others are compared with, so the test runs until nobody stands out.
    while True:
        scatter = squares(means, members)
        outlying = _outlying(scatter, members)
        if not outlying.any():
            break
        members &= ~outlying
    members &= members.sum(axis=0) >= LEAST_VARIANTS
    # A column without members divides by 1; nobody uses its variance.
    degrees = np.maximum(scatter.degrees, 1)
    return Pool(scatter.total / degrees, degrees, members)


@dataclass(frozen=True)
class _Scatter:
    """Sums of squares of the seeds about their variant: of each by itself, and of all members together.

    Attributes:
        own, own_degrees: (n, K), independent of what is left of `total` without them.
        total, degrees: (K,).
    """

    own: Floats
    own_degrees: Floats
    total: Floats
    degrees: Floats


def _one_way(means: Sequence[Floats], members: Bools) -> _Scatter:
    own = np.array([((one - one.mean(axis=0)) ** 2).sum(axis=0) for one in means])
    degrees = np.array([[len(one) - 1.0] for one in means]) * np.ones_like(own)
    return _Scatter(own, degrees, (own * members).sum(axis=0), (degrees * members).sum(axis=0))


def _two_way(means: Sequence[Floats], members: Bools) -> _Scatter:
    table = np.array(means)
    count = members.sum(axis=0)
    # What a seed does to all members is no scatter of any of them.
    by_seed = (table * members[:, None]).sum(axis=0) / np.maximum(count, 1)
    centred = table - by_seed
    residuals = centred - centred.mean(axis=1, keepdims=True)
    own = (residuals**2).sum(axis=1)
    total: Floats = (own * members).sum(axis=0)
    seeds = table.shape[1]
    # Without the variant the mean of each seed is another one: that is what the factor makes up for.
    own = own * count / np.maximum(count - 1, 1)
    return _Scatter(own, np.full_like(own, seeds - 1.0), total, np.maximum(count - 1.0, 0) * (seeds - 1))


def _outlying(scatter: _Scatter, members: Bools) -> Bools:
    """The member of each column whose seeds scatter most by far, if there is one, (n, K)."""
    # Imported here: scipy costs a tenth of a second, which the command line need not wait for.
    from scipy.special import fdtrc

    # Rounding may leave less than 0.
    others = np.maximum(scatter.total - scatter.own, 0)
    degrees = scatter.degrees - scatter.own_degrees
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = (scatter.own / scatter.own_degrees) / (others / degrees)
        p = np.where(members & (degrees > 0), fdtrc(scatter.own_degrees, degrees, ratio), 1)
    # Nothing scatters: 0 / 0.
    p = np.where(np.isnan(p), 1, p)
    largest = np.arange(len(p))[:, None] == p.argmin(axis=0)
    outlying: Bools = largest & (p < LEVEL / members.sum(axis=0))
    return outlying
