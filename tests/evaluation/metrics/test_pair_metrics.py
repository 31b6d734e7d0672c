"""Every figure of an evaluation is the mean over its pairs of what a comparison resamples."""

import math
from dataclasses import replace

import numpy as np
import pytest

from evaluation.benchmarks.hpatches import split_of
from evaluation.evaluation import Evaluation, Timings
from evaluation.metrics.figure import PairMetric
from evaluation.metrics.homography import THRESHOLDS, auc_shares
from evaluation.metrics.pair_metrics import (
    PAIR_METRICS,
    PairScore,
    find_pair_metric,
    numbers_of,
)
from evaluation.protocols import PROTOCOLS
from evaluation.statistics.compare import compare
from evaluation.statistics.variants import Variant
from r2d2.collapse import CollapseSigns

SEQUENCES = ("i_0", "i_1", "i_2", "v_0", "v_1", "v_2", "v_3")


def pair(sequence, image, rng, gain=0.0):
    """A pair with every number; every tenth has no homography."""
    errors = [math.inf if rng.random() < 0.1 else max(0.0, rng.exponential(3) - gain) for _ in range(2)]
    return PairScore(
        *(sequence, split_of(sequence), image, 500, 400, int(rng.integers(50, 150))),
        mma=tuple(np.sort(rng.uniform(size=15)).tolist()),
        corner_error_dlt=errors[0],
        corner_error_poselib=errors[1],
        repeatability=(float(rng.uniform()), float(rng.uniform())),
        localisation_error=float(max(0.1, rng.uniform(0.8, 1.6) - gain)),
        matching_score=float(rng.uniform()),
        inliers_poselib=int(rng.integers(0, 50)),
    )


def evaluation(network, gain=0.0, seed=0):
    rng = np.random.default_rng(seed)
    pairs = tuple(pair(sequence, image, rng, gain) for sequence in SEQUENCES for image in range(2, 7))
    parts = (PROTOCOLS["d2net"], "bench", "b" * 64, pairs, Timings(1, 1), CollapseSigns(0.2, 0.8))
    return Evaluation("net", network * 64, *parts)


@pytest.mark.parametrize("key", evaluation("0").metrics())
def test_means_of_a_comparison_are_the_figures_of_the_evaluation(key):
    scored = evaluation("a")
    compared = compare([Variant("net", (scored,))], "net", [key], replicates=99)
    for split in (None, "illumination", "viewpoint"):
        assert compared.mean("net", key, split or "overall").mean == pytest.approx(scored.metrics(split)[key])


def test_every_figure_of_an_evaluation_can_be_compared():
    assert set(evaluation("a").metrics()) <= set(PAIR_METRICS)


@pytest.mark.parametrize(
    ("errors", "shares"),
    [
        ([0.0], [1.0]),
        ([1.0], [0.75]),
        ([2.0], [0.0]),
        ([math.inf, 1.0, 0.5], [0.0, 1 - 1.5 / 4, 1 - 0.5 / 4]),
    ],
)
def test_shares_of_an_area_worked_out_by_hand(errors, shares):
    """The curve up to 2 pixels: the rise to the i-th error is a straight line from the error before."""
    np.testing.assert_allclose(auc_shares(np.array(errors), 2.0), shares)


def pose_auc(errors, threshold):
    """SuperGlue's area: straight lines through (i-th smallest error, i / P), flat beyond."""
    ordered = np.concatenate([[0.0], np.sort(errors)])
    shares = np.arange(len(ordered)) / errors.size
    below = np.searchsorted(ordered, threshold)
    x, y = np.append(ordered[:below], threshold), np.append(shares[:below], shares[below - 1])
    return np.trapezoid(y, x) / threshold


def test_shares_of_an_area_add_up_to_it_with_ties_and_without_homographies():
    rng = np.random.default_rng(0)
    for _ in range(50):
        errors = np.round(rng.exponential(3, size=20), 1)
        errors[rng.random(20) < 0.2] = np.inf
        means = [auc_shares(errors, threshold).mean() for threshold in THRESHOLDS]
        np.testing.assert_allclose(means, [pose_auc(errors, threshold) for threshold in THRESHOLDS])


def test_a_smaller_error_is_better():
    variants = [
        Variant("a", (evaluation("a"), evaluation("1", seed=1)), (0, 1)),
        Variant("b", (evaluation("b", gain=0.5), evaluation("2", gain=0.5, seed=1)), (0, 1)),
    ]
    row = compare(variants, "a", ["localisation_error_px"], replicates=999).difference(
        "b", "localisation_error_px"
    )
    assert row.estimate < 0
    assert row.verdict == "better"


def test_intervals_stay_within_what_a_share_can_be():
    """Nearly perfect but for one sequence: the interval would reach beyond 1."""
    scored = evaluation("a")
    pairs = tuple(replace(p, mma=(0.6 if p.sequence == "i_0" else 1.0,) * 15) for p in scored.pairs)
    variant = Variant("net", (replace(scored, pairs=pairs),))
    row = compare([variant], "net", ["mma_3px", "matches"]).mean("net", "mma_3px")
    assert row.low < row.mean < row.high == 1.0
    assert compare([variant], "net", ["matches"]).mean("net", "matches").high > 1


def test_a_pair_without_a_number_counts_in_no_row():
    """Metrics that have one of every pair stay as they are; a sequence without any pair left is none."""
    scored, other = evaluation("a"), evaluation("b", gain=0.1, seed=1)
    metrics = ("localisation_error_px", "matches")
    whole = compare([Variant("a", (scored,)), Variant("b", (other,))], "a", metrics, replicates=99)
    lost = {(SEQUENCES[0], image) for image in range(2, 7)} | {(SEQUENCES[1], 3)}
    holed = [
        replace(pair, localisation_error=math.nan) if (pair.sequence, pair.image) in lost else pair
        for pair in scored.pairs
    ]
    table = compare(
        [Variant("a", (replace(scored, pairs=tuple(holed)),)), Variant("b", (other,))],
        "a",
        metrics,
        replicates=99,
    )
    assert whole.left_out == {}
    assert table.left_out == {"localisation_error_px": 6}
    assert table.difference("b", "matches") == whole.difference("b", "matches")
    row = table.mean("b", "localisation_error_px")
    kept = [
        np.mean([p.localisation_error for p in other.pairs if p.sequence == s and (s, p.image) not in lost])
        for s in SEQUENCES[1:]
    ]
    assert row.mean == pytest.approx(np.mean(kept))
    assert row.sequences == len(SEQUENCES) - 1
    assert {r.sequence for r in table.by_sequence if r.metric == metrics[0]} == set(SEQUENCES[1:])
    none = tuple(replace(pair, localisation_error=math.nan) for pair in scored.pairs)
    with pytest.raises(
        ValueError, match="localisation_error_px cannot be compared: no pair has one in every"
    ):
        compare([Variant("a", (replace(scored, pairs=none),))], "a", metrics)


def test_what_was_not_computed_is_refused():
    scored = evaluation("a")
    bare = replace(scored, pairs=tuple(replace(p, matching_score=None) for p in scored.pairs))
    with pytest.raises(ValueError, match="matching_score was not computed"):
        numbers_of(find_pair_metric("matching_score"), bare.pairs)
    with pytest.raises(ValueError, match=r"unknown metric 'auc'; known: mma_1px, .*matching_score"):
        find_pair_metric("auc")


def test_a_new_metric_is_a_figure_of_the_evaluation_once_it_is_listed(monkeypatch):
    monkeypatch.setitem(
        PAIR_METRICS, "squared", PairMetric("squared", lambda pairs: np.array([p.matches**2 for p in pairs]))
    )
    scored = evaluation("a")
    assert scored.metrics()["squared"] == np.mean([p.matches**2 for p in scored.pairs])
