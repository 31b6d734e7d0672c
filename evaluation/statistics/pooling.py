"""Pools the variance of seeds over all variants of a table.

Three seeds of one variant leave two degrees of freedom, with which Student's distribution asks for a lead of
12.6 standard errors where p is to be below 0.05 / 8. Trainings of the variants of one table differ in their
loss alone: if their seeds scatter alike, n variants of R seeds have n (R - 1) degrees of freedom together, or
(n - 1) (R - 1) where seeds are paired and what a seed does to all variants is taken off (two-way analysis of
variance without replication; Scheffe, The Analysis of Variance, 1959, chapter 4).

A variant whose seeds scatter more than those of the others does not belong in the pool: the pooled variance
would be too small for it, and it would be called better or worse by chance. Cochran's test finds it (The
distribution of the largest of a set of estimated variances, Annals of Eugenics 1941; ISO 5725-2 uses it in
the same way): the largest variance is compared with those of the others by Fisher's distribution, at LEVEL /
n, and left out if it is too large, until none is. A variant that was left out, and every variant whose
baseline was, keeps the estimate of its own seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

LEVEL = 0.05

# With fewer there is nothing to pool.
LEAST_VARIANTS = 3


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
