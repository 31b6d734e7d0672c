"""Decides after each round of seeds what is known of every variant, until a question is answered.

After each round every open variant is tested against its baseline, as `evaluation.statistics.compare` tests a
finished table, but at the level that `evaluation.statistics.spending` gives to this look:

* **better** or **worse**: the difference to the baseline is shown not to be 0. Holm's correction over the
  variants holds at every look (Ye, Li, Liu and Yao, A group sequential Holm procedure with multiple primary
  endpoints, Stat. Med. 2013): in a study some such verdict is false with a chance of at most 5 %.
* **equivalent**: the difference is shown to lie within the margin, by two one-sided tests (Schuirmann, J.
  Pharmacokinet. Biopharm. 1987). Each such statement is false with a chance of at most 5 %.
* **undecided**: no such verdict is likely any more. The chance of one at the last round, given what has been
  seen, is below HOPE (predictive power: Spiegelhalter, Freedman and Blackburn, Control. Clin. Trials 1986).

A variant with one of these gets no more seeds. The rounds depend on nothing but the scores and the question:
whoever computes them again from the same scores decides the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from evaluation.statistics.bootstrap import ALPHA, Estimates
from evaluation.statistics.contrasts import Scores, estimate_contrasts
from evaluation.statistics.resampling import REPLICATES
from evaluation.statistics.spending import nominal_levels

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Words = npt.NDArray[np.str_]
Answer = Literal["better", "worse", "equivalent", "undecided", "open"]

# The first look: with one seed nothing is known of others.
FIRST_LOOK = 2

# A variant with a smaller chance of a verdict gets no more seeds.
HOPE = 0.15


@dataclass(frozen=True)
class Question:
    """A Question is what a sweep shall decide of each variant, written down before the first score.

    Attributes:
        gain: the smallest difference that matters, in the unit of the metric, above 0. It sets how many seeds
            are worth while.
        most_seeds: the last round, at least 2.
        margin: differences below it count as none; None: `gain`, and no seed is spent to show it.
    """

    gain: float
    most_seeds: int
    margin: float | None = None

    def __post_init__(self) -> None:
        for name, value in (("gain", self.gain), ("margin", self.margin)):
            if value is not None and not 0 < value < 1:
                raise ValueError(f"the {name} of a question is {value:g}; it must lie between 0 and 1")
        if self.most_seeds < FIRST_LOOK:
            raise ValueError(
                f"a question with at most {self.most_seeds} seeds of each variant cannot be answered: "
                f"{FIRST_LOOK} is the smallest number"
            )

    @property
    def width(self) -> float:
        """Returns the margin within which variants are called equivalent."""
        return self.gain if self.margin is None else self.margin

    @property
    def times(self) -> tuple[float, ...]:
        """Returns the share of the seeds that is there at each look."""
        return tuple(seeds / self.most_seeds for seeds in range(FIRST_LOOK, self.most_seeds + 1))

    def level(self, seeds: int, alpha: float) -> float:
        """Returns the level of a two-sided test after so many seeds, of a chance alpha of a false alarm."""
        return nominal_levels(alpha, self.times)[seeds - FIRST_LOOK]


@dataclass(frozen=True)
class Evidence:
    """Evidence is what a look shows of V variants, in each of N studies; all are (V, N).

    Attributes:
        value: the differences to the baselines, larger is better.
        p: two-sided, of no difference.
        p_outside: of a difference of the margin or more, the larger one of both sides.
        between: the part of the difference's variance that further seeds make smaller.
        beyond: the part that they do not.
    """

    value: Floats
    p: Floats
    p_outside: Floats
    between: Floats
    beyond: Floats


@dataclass(frozen=True)
class Look:
    """A Look answers a question about V variants after so many seeds of each.

    Attributes:
        question: what is asked.
        seeds: how many there are.
    """

    question: Question
    seeds: int

    def answers(
        self, evidence: Evidence, tested: Bools, differing: npt.NDArray[np.int_]
    ) -> tuple[Words, Floats]:
        """Answers for the variants that are tested.

        Args:
            evidence: (V, N).
            tested: (V, N), whether a variant is still open in a study, and has the scores.
            differing: (N,), how many variants of a study were called better or worse at former looks.

        Returns:
            (V, N), the answers, "" where nothing is tested; (V, N), the chance of a verdict at the last look.
        """
        shown = np.zeros_like(tested)
        # Holm: what is shown to differ leaves its share of the chance to those that are not.
        while (
            new := tested & ~shown & (evidence.p < self.level(differing + shown.sum(axis=0), len(tested)))
        ).any():
            shown |= new
        differing = differing + shown.sum(axis=0)
        equivalent = ~shown & (evidence.p_outside < self.question.level(self.seeds, 2 * ALPHA))
        chance = np.where(shown | equivalent, 1.0, self._chance(evidence, differing))
        hopeless = (chance < HOPE) | (self.seeds == self.question.most_seeds)
        answers = np.select(
            [~tested, shown & (evidence.value > 0), shown, equivalent, hopeless],
            ["", "better", "worse", "equivalent", "undecided"],
            "open",
        )
        return answers, chance

    def level(self, differing: npt.NDArray[np.int_], variants: int, seeds: int | None = None) -> Floats:
        """Returns the level at which the variants that are not shown to differ are tested.

        Args:
            differing: of any shape, how many of all variants are shown to differ.
            variants: how many variants there are.
            seeds: of the look; None: those of this one.

        Returns:
            of the shape of `differing` (any shape), in (0, 1).
        """
        levels = [self.question.level(seeds or self.seeds, ALPHA / left) for left in range(variants, 0, -1)]
        found: Floats = np.array([*levels, levels[-1]])[differing]
        return found

    def _chance(self, evidence: Evidence, differing: npt.NDArray[np.int_]) -> Floats:
        """Of a verdict at the last look, if the seeds to come scatter about what was seen."""
        from scipy.special import ndtr, ndtri

        most, width, value = self.question.most_seeds, self.question.width, evidence.value
        error = np.sqrt(evidence.between * self.seeds / most + evidence.beyond)
        # The tiny number: nothing is to come after the last look.
        to_come = np.sqrt(np.maximum(evidence.between * (1 - self.seeds / most), 1e-18))
        bound = -ndtri(self.level(differing, len(value), most) / 2) * error
        chance = ndtr((value - bound) / to_come) + ndtr((-value - bound) / to_come)
        if self.question.margin is not None:
            inside = np.maximum(width + ndtri(self.question.level(most, 2 * ALPHA) / 2) * error, 0)
            chance = chance + ndtr((inside - value) / to_come) - ndtr((-inside - value) / to_come)
        at_most: Floats = np.minimum(chance, 1)
        return at_most


@dataclass(frozen=True)
class Decision:
    """A Decision is what a round of seeds says of one variant.

    Attributes:
        variant, baseline: their names.
        answer: "open" if another round may decide.
        seeds: how many of each.
        estimate: the difference to the baseline, in the unit of the metric.
        low, high: the interval of this look's level; it leaves out 0 if the answer is "better" or "worse".
        chance: of a verdict at the last round, in [0, 1]; 1 if there is one.
    """

    variant: str
    baseline: str
    answer: Answer
    seeds: int
    estimate: float
    low: float
    high: float
    chance: float


def decide(
    scores: Mapping[str, Scores],
    baselines: Mapping[str, str],
    seeds: tuple[int, ...],
    question: Question,
    *,
    smaller_is_better: bool = False,
    replicates: int = REPLICATES,
    intervals: bool = True,
) -> list[tuple[Decision, ...]]:
    """Decides after every round whose scores are there.

    Args:
        scores: of each row, (seeds, sequences, 1); the seeds are known.
        baselines: the baseline of each variant, by the variant's name.
        seeds: in the order in which they are trained. Round R has the first R of them.
        question: what is asked.
        smaller_is_better: of the metric.
        replicates: how many draws of the bootstrap.
        intervals: False leaves them out, NaN: they take longer than all the rest, and decide nothing.

    Returns:
        for each round the decisions on the variants that were open before it. A variant without the scores of
        a round stays open and is tested again in the next one.
    """
    answers: dict[str, Answer] = dict.fromkeys(baselines, "open")
    rounds = []
    for count in range(FIRST_LOOK, min(len(seeds), question.most_seeds) + 1):
        there = _first(scores, seeds[:count])
        tested = {
            name: other
            for name, other in baselines.items()
            if answers[name] == "open" and {name, other} <= there.keys()
        }
        if tested:
            found = _estimated(there, tested, replicates)
            look, sign = Look(question, count), -1 if smaller_is_better else 1
            made = _decisions(look, found, baselines, answers, sign, intervals)
            answers |= {one.variant: one.answer for one in made}
            rounds.append(made)
    return rounds


def _first(scores: Mapping[str, Scores], seeds: tuple[int, ...]) -> dict[str, Scores]:
    """The rows that have all these seeds, cut to them, in the order that `Scores` asks for."""
    wanted = tuple(sorted(seeds))
    cut = {}
    for name, row in scores.items():
        known = row.seeds or ()
        if set(wanted) <= set(known):
            cut[name] = Scores(row.values[[known.index(seed) for seed in wanted]], wanted, row.poolable)
    return cut


def _estimated(
    there: Mapping[str, Scores], tested: Mapping[str, str], replicates: int
) -> dict[str, Estimates]:
    found: dict[str, Estimates] = {}
    for baseline in dict.fromkeys(tested.values()):
        names = [name for name, other in tested.items() if other == baseline]
        estimates = estimate_contrasts(there[baseline], [there[name] for name in names], replicates)
        found |= dict(zip(names, estimates, strict=True))
    return found


def _decisions(
    look: Look,
    found: Mapping[str, Estimates],
    baselines: Mapping[str, str],
    answers: Mapping[str, Answer],
    sign: int,
    intervals: bool,
) -> tuple[Decision, ...]:
    """One look at the variants that have estimates; the others count in Holm's correction only."""
    width, unknown = look.question.width, np.full(1, np.nan)
    rows = [
        (
            sign * one.value,
            one.tail_p(0.0),
            np.where(np.abs(one.value) < width, np.maximum(one.tail_p(width), one.tail_p(-width)), 1),
            one.seeds.between,
            one.beyond,
        )
        if (one := found.get(name))
        else (unknown,) * 5
        for name in baselines
    ]
    evidence = Evidence(*(np.array(column) for column in zip(*rows, strict=True)))
    tested = np.array([[name in found] for name in baselines])
    differing = np.array([sum(answer in ("better", "worse") for answer in answers.values())])
    said, chances = look.answers(evidence, tested, differing)
    differing += np.isin(said, ("better", "worse")).sum(axis=0)
    level = float(look.level(differing, len(baselines))[0])
    made = []
    for name, answer, chance in zip(baselines, said[:, 0], chances[:, 0], strict=True):
        if name in found:
            low, high = found[name].tail_interval(level, 0) if intervals else (np.nan, np.nan)
            value = float(found[name].value[0])
            made.append(Decision(name, baselines[name], answer, look.seeds, value, low, high, float(chance)))
    return tuple(made)
