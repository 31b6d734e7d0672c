"""Estimates by a bootstrap over sequences and seeds how far a mean may lie from the truth.

Model: the score of seed r on sequence s, the mean of its pairs, is `mean + a_s + b_r + e_rs`. Both sequences
and seeds are samples. The five pairs of a sequence share its photographs, so sequences are drawn, not pairs.

Why not draw both with replacement and take percentiles (Owen, The pigeonhole bootstrap, Ann. Appl. Stat.
2007)? The variance of n draws is too small by (n - 1) / n, a third for three seeds, and percentiles of few
draws lack the tails of Student's distribution. Instead:

* The mean squares of the table of R seeds and S sequences give the variance of the mean without bias, as
  in the analysis of variance (Searle, Casella and McCulloch, Variance Components, 1992, chapter 4), in
  two parts: var(means of seeds) / R, which holds b and e, and var(means of sequences) / S -
  var(residuals) / (R S), which holds a alone. Taking e off the sequences' part, which is known well,
  leaves a seeds' part that is never negative.
* Sequences are drawn with replacement, and the mean of each draw is divided by its own standard error
  (bootstrap-t: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 12); this follows
  skewed scores. A draw of six sequences may hold one of them five times and explode; normal noise on
  each, of Silverman's width, prevents that (Polansky and Schucany, J. R. Stat. Soc. B 1997). With few
  sequences the result is nearly Student's distribution, with many nearly the bootstrap-t without noise.
* Three seeds say nothing about the shape of their distribution: the error of their mean is Student's.
* The error is the sum of both parts. With R - 1 degrees of freedom for the seeds (Behrens and Fisher)
  false alarms stay below every level, but intervals are too wide where both parts weigh alike (Robinson,
  Ann. Stat. 1976); with Satterthwaite's (R - 1) / w^2, w the seeds' share of the variance, they are too
  narrow. Intervals use (R - 1) / w^(1/4), chosen by simulation: with 108 sequences and 3 seeds 94 to 97 %
  of them hold the truth, whatever the sizes of a, b and e. p-values use R - 1: a correction for many
  comparisons asks for levels far below 5 %, where anything less raises false alarms. So p may exceed 0.05
  though the interval leaves out 0.

The seeds' part of a difference is pooled over the variants of a table where they scatter alike
(`evaluation.statistics.contrasts`), which leaves far more degrees of freedom than R - 1.

What it cannot do: with two seeds intervals hold the truth in 92 to 98 % of studies, with six sequences in 94
to 98 %, or in 91 % if scores are very skewed (exponential) and seeds do not matter.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from evaluation.statistics.resampling import REPLICATES, SEED, resample
from evaluation.statistics.student import GRID, GRID_END, student_quantiles, student_tails

Floats = npt.NDArray[np.float64]

ALPHA = 0.05

# The seeds' degrees of freedom are (R - 1) / w^this in intervals; 0 is Behrens and Fisher, 2 Satterthwaite.
_INTERVAL_EXPONENT = 0.25


@dataclass(frozen=True)
class Estimates:
    """Estimates hold K means with what is known of their error.

    Attributes:
        value: (K,).
        by_sequences: (replicates, K), the part of the sequences in equally probable errors; NaN with one
            sequence.
        seeds: what the seeds add to the variance of the mean.
        beyond: (K,), the part of the sequences in the mean's variance, beyond that.
    """

    value: Floats
    by_sequences: Floats
    seeds: SeedVariances
    beyond: Floats

    @cached_property
    def _ends(self) -> Floats:
        total = self.beyond + self.seeds.between
        share = np.divide(self.seeds.between, total, out=np.ones_like(total), where=total > 0)
        # A share below a millionth counts as one: the degrees of freedom stay finite.
        errors = self._errors(self.seeds.degrees / np.maximum(share, 1e-6) ** _INTERVAL_EXPONENT)
        # An error is the estimate less the truth: its upper end is how far the truth may lie below.
        ends: Floats = self.value - np.quantile(errors, [1 - ALPHA / 2, ALPHA / 2], axis=0)
        return ends

    def _errors(self, degrees: Floats) -> Floats:
        """Equally probable errors of both parts, (replicates, K), for the seeds' degrees of freedom (K,)."""
        by_seeds = self.seeds.errors(degrees, len(self.by_sequences))
        # In another order, always the same: the parts are independent, and these ascend.
        return self.by_sequences + by_seeds[np.random.default_rng(SEED).permutation(len(by_seeds))]

    @property
    def low(self) -> Floats:
        """Returns the lower ends of the 95 % intervals, (K,); NaN if there is only one sequence."""
        low: Floats = self._ends[0]
        return low

    @property
    def high(self) -> Floats:
        """Returns the upper ends, (K,)."""
        high: Floats = self._ends[1]
        return high

    @cached_property
    def p(self) -> Floats:
        """Returns the two-sided p-value for a true mean of 0, (K,); NaN with one sequence.

        It is twice the smaller tail beyond the mean, which itself counts as a draw (Davison and Hinkley,
        Bootstrap Methods and their Application, 1997).
        """
        # With fewer degrees of freedom than the interval: see the beginning of this file.
        errors = self._errors(self.seeds.degrees)
        above, below = (errors >= self.value).sum(axis=0), (errors <= self.value).sum(axis=0)
        p: Floats = np.minimum(2 * (1 + np.minimum(above, below)) / (len(errors) + 1), 1)
        return np.where(np.isnan(errors).any(axis=0), np.nan, p)

    def tail_p(self, truth: float) -> Floats:
        """Computes the two-sided p-value of the hypothesis that the true mean is `truth`, also far below `p`.

        Of the seeds' part Student's tail itself is taken, averaged over the draws of the sequences, so that a
        p-value may be far smaller than one part in the number of draws.

        Args:
            truth: in the unit of the score.

        Returns:
            (K,), in [0, 1]; NaN if there is only one sequence.
        """
        above = np.array([self._above(column, truth) for column in range(len(self.value))])
        p: Floats = 2 * np.minimum(above, 1 - above)
        return p

    def tail_interval(self, level: float, column: int) -> tuple[float, float]:
        """Returns the ends of the interval of the true means whose `tail_p` is at least `level`.

        Args:
            level: in (0, 1).
            column: of which mean, below K.

        Returns:
            both ends; NaN if there is only one sequence.
        """
        from scipy.optimize import brentq

        value = float(self.value[column])
        spread = math.sqrt(self.seeds.between[column] + self.beyond[column])
        if np.isnan(spread):
            return np.nan, np.nan
        if spread == 0:
            return value, value

        def end(sign: int) -> float:
            # Steps grow with the distance, which may be a thousand standard errors.
            def excess(step: float) -> float:
                above = self._above(column, value + sign * spread * math.sinh(step))
                return (above if sign < 0 else 1 - above) - level / 2

            step = float(brentq(excess, 0.0, GRID_END, xtol=1e-6))
            return value + sign * spread * math.sinh(step)

        return end(-1), end(1)

    def _above(self, column: int, truth: float) -> float:
        """How often the error is at least what it would be if `truth` were the mean."""
        distance = self.value[column] - truth - self.by_sequences[:, column]
        scale = math.sqrt(self.seeds.between[column])
        if np.isnan(scale):
            return np.nan
        if scale == 0:
            # Of ties half lie above: two equal networks do not differ.
            return float(np.mean(distance < 0) + np.mean(distance == 0) / 2)
        tails = student_tails(float(self.seeds.degrees[column]))
        beyond = np.interp(np.abs(distance / scale), GRID, tails)
        return float(np.where(distance > 0, beyond, 1 - beyond).mean())


def estimate(
    samples: Sequence[Floats], replicates: int = REPLICATES, seeds: SeedVariances | None = None
) -> Estimates:
    """Estimates the sum of the samples' means, over the same sequences and over each sample's own seeds.

    The mean of one variant is `[scores]`; a difference with common seeds is `[scores - others]` (whatever
    both share drops out), one without is `[scores, -others]`. A sample of one seed adds nothing for its seed:
    the result then speaks of that very network.

    Args:
        samples: each (R, S, K): seeds, sequences, columns; S and K are the same in all.
        replicates: how many draws.
        seeds: what the seeds add to the variance of the sum; None: as these samples say.
    """
    profile = np.sum([sample.mean(axis=0) for sample in samples], axis=0)
    value = profile.mean(axis=0)
    n = len(profile)
    if n < 2:
        unknown = np.full_like(value, np.nan)
        return Estimates(value, unknown[None], SeedVariances(*[unknown] * 3), unknown)
    seeds = seeds or SeedVariances.of(samples)
    # Both are estimates, so their difference may fall below 0; the variance does not.
    beyond = np.maximum(profile.var(axis=0, ddof=1) / n - seeds.residual, 0)
    by_sequences = np.sqrt(beyond) * resample(n, replicates).studentised(profile)
    return Estimates(value, by_sequences, seeds, beyond)


@dataclass(frozen=True)
class SeedVariances:
    """SeedVariances hold the parts of the variance of a sum of means over seeds and sequences, (K,) each.

    Attributes:
        between: what the means of the seeds say: seeds and residuals.
        residual: the residuals alone.
        degrees: degrees of freedom of `between`; of several samples by Satterthwaite's rule (Biometrics
            Bulletin 1946).
    """

    between: Floats
    residual: Floats
    degrees: Floats

    @classmethod
    def of(cls, samples: Sequence[Floats]) -> SeedVariances:
        """Estimates the variances from how the seeds of these samples scatter; single seeds add nothing.

        Args:
            samples: each (R, S, K): seeds, sequences, columns; S and K are the same in all.
        """
        columns = samples[0].shape[2]
        between, residual, weight = np.zeros((3, columns))
        for sample in samples:
            seeds, sequences, _ = sample.shape
            if seeds < 2 or sequences < 2:
                continue
            by_seed = sample.mean(axis=1)
            centred = sample - by_seed[:, None]
            # What seed and sequence do not explain.
            residuals = centred - centred.mean(axis=0)
            freedom = (seeds - 1) * (sequences - 1)
            variance = by_seed.var(axis=0, ddof=1) / seeds
            between += variance
            residual += (residuals**2).sum(axis=(0, 1)) / freedom / (seeds * sequences)
            weight += variance**2 / (seeds - 1)
        # Satterthwaite: the degrees of a sum of variances that have different ones.
        degrees = np.divide(between**2, weight, out=np.ones(columns), where=weight > 0)
        return cls(between, residual, degrees)

    def errors(self, degrees: Floats, replicates: int) -> Floats:
        """Returns errors of the means of the seeds: equally probable values of Student's distribution.

        Args:
            degrees: (K,), degrees of freedom, at least 1.
            replicates: how many values.

        Returns:
            (replicates, K), ascending, in the unit of the score.
        """
        if not self.between.any():
            return np.zeros((replicates, len(self.between)))
        errors: Floats = np.sqrt(self.between) * student_quantiles(degrees, replicates)
        return errors


def holm(p: Floats) -> Floats:
    """Corrects p-values for their number, so that a false alarm anywhere has the level's probability.

    S. Holm, A simple sequentially rejective multiple test procedure, Scand. J. Statist. 1979.

    Args:
        p: (n, ...), n comparisons along the first axis.

    Returns:
        corrected: (n, ...), in [0, 1].
    """
    order = np.argsort(p, axis=0)
    ranked = np.take_along_axis(p, order, axis=0)
    factors = np.arange(len(p), 0, -1).reshape(-1, *[1] * (p.ndim - 1))
    raised = np.minimum(np.maximum.accumulate(ranked * factors, axis=0), 1)
    corrected = np.empty_like(raised)
    np.put_along_axis(corrected, order, raised, axis=0)
    return corrected
