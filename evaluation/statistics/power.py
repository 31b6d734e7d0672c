"""Computes how small a true gain a comparison can show, and what it takes to show a given one.

A difference of two means over R seeds and S sequences has the variance `seed / R + cell / (R S) + sequence /
S`. A gain is shown if it exceeds t times its standard error, where t is the quantile of Student's
distribution at the level of Holm's first step, 0.05 / V for V differences. A power of 80 % needs one further
quantile (Cohen, Statistical Power Analysis, 1988). The seeds' variance is pooled over the variants and has V
(R - 1) degrees of freedom. What a question takes, whose seeds come in rounds, is simulated.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from evaluation.statistics.bootstrap import ALPHA
from evaluation.statistics.rounds import FIRST_LOOK, Evidence, Look, Question, Words

POWER = 0.8

# Of MMA@3 on HPatches, standard deviations: measured over trainings of one loss.
SEED, SEED_ON_SEQUENCE, PAIR = 0.005, 0.015, 0.04

# Beyond these numbers nobody would try.
MOST_SEEDS, MOST_SEQUENCES = 100, 10_000


@dataclass(frozen=True)
class Variances:
    """Variances are the parts of the variance of a difference.

    Attributes:
        seed: the variance of the difference over seeds.
        cell: of the seed-by-sequence interaction.
        sequence: the variance of the difference over sequences: a variant suits some sequences more.
    """

    seed: float
    cell: float
    sequence: float = 0.0

    def error(self, seeds: int, sequences: int) -> float:
        """Returns the standard error of the difference, in the unit of the score."""
        return math.sqrt(self.seed / seeds + self.cell / (seeds * sequences) + self.sequence / sequences)


def smallest_detectable(
    variants: int,
    seeds: int,
    sequences: int,
    *,
    seed: float = SEED,
    seed_on_sequence: float = SEED_ON_SEQUENCE,
    pair: float = PAIR,
    pairs: int = 5,
) -> float:
    """Returns the smallest true gain that is called better in 80 of 100 studies, after the correction.

    Args:
        variants: how many are compared with a baseline, at least 1.
        seeds: of each variant and of the baseline.
        sequences: of the benchmark, e.g. held-out photographs.
        seed: standard deviation of a network's mean score over seeds.
        seed_on_sequence: standard deviation of what a seed adds on a single sequence.
        pair: standard deviation of the score of a pair of images.
        pairs: how many pairs a sequence has.

    Returns:
        in the unit of the score; infinite with fewer than two seeds.
    """
    variances = Variances(2 * seed**2, 2 * (seed_on_sequence**2 + pair**2 / pairs))
    return detectable(variances, variants, seeds, sequences)


def detectable(variances: Variances, variants: int, seeds: int, sequences: int) -> float:
    """Returns the smallest detectable gain for known variances, e.g. those of a comparison."""
    # scipy costs a tenth of a second, which the command line need not wait for.
    from scipy.special import stdtrit

    if seeds < 2:
        return math.inf
    degrees = variants * (seeds - 1)
    quantiles = stdtrit(degrees, [1 - ALPHA / (2 * variants), POWER])
    return float(quantiles.sum()) * variances.error(seeds, sequences)


def power(gain: float, variances: Variances, variants: int, seeds: int, sequences: int) -> float:
    """Returns the share of studies in which a true gain is called better, after the correction.

    Args:
        gain: in the unit of the score, at least 0.
        variances: of a difference.
        variants: how many are compared with a baseline, at least 1.
        seeds: of each variant and of the baseline; with one nothing is called better.
        sequences: of the benchmark.
    """
    # scipy costs a tenth of a second, which the command line need not wait for.
    from scipy.special import stdtr, stdtrit

    if seeds < 2:
        return 0.0
    degrees = variants * (seeds - 1)
    needed = stdtrit(degrees, 1 - ALPHA / (2 * variants))
    return float(stdtr(degrees, gain / variances.error(seeds, sequences) - needed))


def needed_seeds(gain: float, variances: Variances, variants: int, sequences: int) -> int | None:
    """Returns how many seeds would show a gain in 80 of 100 studies; None if not even a hundred would."""
    for seeds in range(2, MOST_SEEDS + 1):
        if detectable(variances, variants, seeds, sequences) <= abs(gain):
            return seeds
    return None


def needed_sequences(gain: float, variances: Variances, variants: int, seeds: int) -> int | None:
    """Returns how many sequences would show a gain in 80 of 100 studies; None if ten thousand would not."""
    if detectable(variances, variants, seeds, MOST_SEQUENCES) > abs(gain):
        return None
    low, high = 1, MOST_SEQUENCES
    while low < high:
        middle = (low + high) // 2
        if detectable(variances, variants, seeds, middle) <= abs(gain):
            high = middle
        else:
            low = middle + 1
    return low


@dataclass(frozen=True)
class Forecast:
    """A Forecast says what a question will probably take.

    Attributes:
        trainings: the mean number, of variants and baseline.
        found: the share of the better variants that are called better; NaN if none is.
        decided: the share of all variants that are called better, worse or equivalent.
    """

    trainings: float
    found: float
    decided: float


def forecast(
    question: Question, variances: Variances, gains: tuple[float, ...], sequences: int, studies: int = 400
) -> Forecast:
    """Simulates studies of the mean scores of variants with known true gains and one common baseline.

    Args:
        question: what is asked.
        variances: of a difference, e.g. of an earlier sweep.
        gains: the true differences of the variants.
        sequences: of the benchmark.
        studies: how many.
    """
    from scipy.special import stdtr

    rng = np.random.default_rng(1)
    truth = np.array(gains)[:, None]
    count, most = len(gains), question.most_seeds
    each = ((variances.seed + variances.cell / sequences) / 2) ** 0.5
    scores = each * rng.standard_normal((most, count + 1, studies))
    suits = (variances.sequence / sequences) ** 0.5 * rng.standard_normal((count, studies))
    last: Words = np.full((count, studies), "open", dtype="U10")
    seeds = np.zeros((count, studies), dtype=int)
    for look in (Look(question, seeds) for seeds in range(FIRST_LOOK, most + 1)):
        means = scores[: look.seeds].mean(axis=0)
        value = means[1:] - means[0] + truth + suits
        beyond = np.full_like(value, variances.sequence / sequences)
        error = variances.error(look.seeds, sequences)
        tails = [
            stdtr(count * (look.seeds - 1), -at / error)
            for at in (np.abs(value), question.width - np.abs(value))
        ]
        evidence = Evidence(value, 2 * tails[0], 2 * tails[1], error**2 - beyond, beyond)
        tested = last == "open"
        seeds[tested] = look.seeds
        said, _ = look.answers(evidence, tested, np.isin(last, ("better", "worse")).sum(axis=0))
        last = np.where(tested, said, last)
    better = (last == "better")[np.array(gains) > 0]
    return Forecast(
        trainings=float((seeds.sum(axis=0) + seeds.max(axis=0)).mean()),
        found=float(better.mean()) if better.size else np.nan,
        decided=float(np.isin(last, ("better", "worse", "equivalent")).mean()),
    )
