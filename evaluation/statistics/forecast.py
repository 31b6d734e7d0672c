"""Forecasts what a question will take, before anything is trained, by simulating its rounds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from evaluation.statistics.power import Variances
from evaluation.statistics.rounds import FIRST_LOOK, Evidence, Look, Question, Words


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
