"""A network is called better than another when more than the choice among many speaks for it."""

import math

import numpy as np
import pytest

from bench.promotions import shares
from evaluation.evaluation import Evaluation, PairScore, Timings
from evaluation.protocols import PROTOCOLS
from evaluation.statistics.paired import difference, lead_of_best, paired_difference
from r2d2.collapse import CollapseSigns


def evaluation(shifts, digest="d"):
    """Two sequences of two pairs for each photograph; the share of matches within 3 pixels is 0.5 + shift."""
    pairs = tuple(
        PairScore(f"{letter}_{name}", split, image, 100, 90, 50, (0.5 + shift,) * 15)
        for name, shift in shifts.items()
        for letter, split in (("i", "illumination"), ("v", "viewpoint"))
        for image in (2, 3)
    )
    signs, validation = CollapseSigns(0.2, 0.9), PROTOCOLS["validation"]
    return Evaluation("network", "m", validation, "fresh", digest, pairs, Timings(1.0, 0.5), signs)


def test_all_pairs_of_a_photograph_are_one_number():
    mine = [evaluation({"a": 0.1, "b": 0.2, "c": 0.3}, d) for d in ("one", "two")]
    theirs = [evaluation({"a": 0.0, "b": 0.0, "c": 0.0}, d) for d in ("one", "two")]
    found = paired_difference(mine, theirs, "mma_3px")
    assert (found.estimate, found.photographs) == (pytest.approx(0.2), 3)
    # Student's quantile with two degrees of freedom, 4.303, times 0.1 / sqrt(3).
    assert (found.low, found.high) == (pytest.approx(0.2 - 0.2484, abs=1e-4), pytest.approx(0.4484, abs=1e-4))
    assert not found.is_shown
    assert str(found) == "+0.200, -0.048 to +0.448"


def test_the_lower_end_allows_for_the_choice():
    values = np.linspace(0.0, 0.02, 54)
    alone, chosen = difference(values), difference(values, chosen_from=135)
    assert alone.is_shown
    assert chosen.high == alone.high
    # The best of 135 leads by 2.604 standard deviations of one network, 0.707 of those of the difference.
    factor = 1 + 2.604 / (math.sqrt(2) * 1.96)
    assert chosen.estimate - chosen.low == pytest.approx(factor * (alone.estimate - alone.low), rel=1e-3)


def test_the_lead_of_the_best_of_many_equals():
    drawn = np.random.default_rng(0).standard_normal((4000, 100))
    for networks in (1, 2, 10, 100):
        assert lead_of_best(networks) == pytest.approx(drawn[:, :networks].max(axis=1).mean(), abs=0.05)


def test_what_cannot_be_shown_is_not_and_no_end_is_impossible():
    assert not difference(np.array([0.9])).is_shown
    assert str(difference(np.array([0.9]))) == "+0.900, no interval"
    assert not difference(np.zeros(9)).is_shown
    wide = difference(np.array([-0.9, 0.9]), bound=1.0)
    assert (wide.low, wide.high) == (-1, 1)


def test_a_smaller_error_is_better(monkeypatch):
    import evaluation.statistics.paired as paired
    from evaluation.metrics.figure import PairMetric

    def halves(pairs):
        return np.array([pair.mma[2] for pair in pairs])

    error = PairMetric("error", halves, is_share=False, smaller_is_better=True)
    monkeypatch.setattr(paired, "find_pair_metric", lambda _: error)
    mine, theirs = evaluation({"a": 0.1, "b": 0.2}), evaluation({"a": 0.2, "b": 0.31})
    assert paired_difference([mine], [theirs], "error").estimate == pytest.approx(0.105)


def test_equal_networks_change_the_champion_rarely_and_a_true_gain_does():
    """A reduced form of `python -m bench.promotions`; there, 1,000 studies each."""
    rng = np.random.default_rng(5)
    assert shares(rng, gain=0.0, studies=150, photographs=54, chosen_from=135) <= 0.05
    assert shares(rng, gain=0.0, studies=150, photographs=6, chosen_from=40) <= 0.05
    assert shares(rng, gain=0.02, studies=100, photographs=54, chosen_from=135) >= 0.8
