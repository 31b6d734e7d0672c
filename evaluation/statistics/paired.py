"""Compares two networks on photographs that both were scored on.

The photographs are the sample: all pairs made of one photograph are one number, because they share what the
photograph shows. A network that was chosen as the best of N on the same photographs owes part of its lead to
these photographs, and other pairs of them do not take that part away. Of N equal networks the best one leads
by `h(N) * s / sqrt(n)` on n photographs, where h(N) is the expected largest of N normal numbers and s the
standard deviation of one network over photographs, at most that of the difference divided by sqrt(2). The
lower end of the interval lies so much lower.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit

from evaluation.evaluation import Evaluation
from evaluation.metrics.figure import PairMetric
from evaluation.metrics.pair_metrics import find_pair_metric, numbers_of
from evaluation.statistics.bootstrap import ALPHA

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class PairedDifference:
    """A PairedDifference says how far a network lies above another, with its 95 % interval.

    Attributes:
        estimate: mean over photographs, larger is better (an error counts with the opposite sign).
        low, high: 95 % interval; the lower end allows for the choice. NaN with fewer than two photographs.
        photographs: how many.
        chosen_from: how many networks the first one was the best of, on the same photographs; 1: not chosen.
    """

    estimate: float
    low: float
    high: float
    photographs: int
    chosen_from: int = 1

    @property
    def is_shown(self) -> bool:
        """Says whether the first network is shown to be better."""
        return self.low > 0

    def __str__(self) -> str:
        if math.isnan(self.low):
            return f"{self.estimate:+.3f}, no interval"
        return f"{self.estimate:+.3f}, {self.low:+.3f} to {self.high:+.3f}"


def paired_difference(
    scored: Sequence[Evaluation], other: Sequence[Evaluation], metric: str, chosen_from: int = 1
) -> PairedDifference:
    """Measures how far one network lies above another on the same validation benchmarks.

    Args:
        scored: evaluations of the one.
        other: evaluations of the other network, on the same benchmarks in the same order.
        metric: a key of `evaluation.metrics.pair_metrics.PAIR_METRICS`.
        chosen_from: see `PairedDifference`.

    Raises:
        ValueError: for an unknown metric, or one that was not computed or that a pair lacks.
    """
    assert [e.benchmark_digest for e in scored] == [e.benchmark_digest for e in other]
    found = find_pair_metric(metric)
    mine, theirs = by_photograph(scored, found), by_photograph(other, found)
    assert mine.keys() == theirs.keys()
    sign = -1 if found.smaller_is_better else 1
    values = np.array([sign * (mine[photo] - theirs[photo]) for photo in mine])
    return difference(values, chosen_from, bound=1.0 if found.is_share else math.inf)


def by_photograph(scored: Sequence[Evaluation], metric: PairMetric) -> dict[str, float]:
    """Averages a metric over all pairs of each photograph of validation benchmarks, by its name there."""
    numbers: dict[str, list[float]] = {}
    for evaluation in scored:
        for pair, number in zip(evaluation.pairs, numbers_of(metric, evaluation.pairs), strict=True):
            # `v_` or `i_` precedes the photograph's name.
            numbers.setdefault(pair.sequence[2:], []).append(float(number))
    return {photo: float(np.mean(values)) for photo, values in sorted(numbers.items())}


def difference(values: Floats, chosen_from: int = 1, bound: float = math.inf) -> PairedDifference:
    """Averages differences, with Student's interval, whose lower end allows for the choice.

    For few photographs the allowance is widened as the interval is, by Student's quantile over the normal
    one.

    Args:
        values: (n,), the difference on each photograph, larger is better.
        chosen_from: see `PairedDifference`.
        bound: no difference can be larger.
    """
    n, estimate = len(values), float(np.mean(values))
    if n < 2:
        return PairedDifference(estimate, math.nan, math.nan, n, chosen_from)
    half = float(stdtrit(n - 1, 1 - ALPHA / 2)) * float(values.std(ddof=1)) / math.sqrt(n)
    # The best of N equal networks leads by so many standard errors of one score. The error of a difference is
    # sqrt(2) times as large, and `half` is 1.96 of those.
    allowance = lead_of_best(chosen_from) / (math.sqrt(2) * NormalDist().inv_cdf(1 - ALPHA / 2))
    low, high = estimate - half * (1 + allowance), estimate + half
    return PairedDifference(estimate, max(low, -bound), min(high, bound), n, chosen_from)


def lead_of_best(networks: int) -> float:
    """Returns the expected largest of so many standard normal numbers; 0 for one.

    G. Blom, Statistical Estimates and Transformed Beta-Variables, 1958: the quantile (N - 3/8) / (N + 1/4);
    within 0.03 for any N.
    """
    return NormalDist().inv_cdf((networks - 0.375) / (networks + 0.25))
