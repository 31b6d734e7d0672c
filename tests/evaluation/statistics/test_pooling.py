"""How far seeds scatter, said by all variants of a table together, and who does not belong to them."""

import numpy as np
import pytest

from evaluation.statistics.contrasts import Scores, contrast, estimate_contrasts, pool

SEEDS = np.array([[0.0, 1.0, 2.0], [1.0, 0.0, 2.0], [3.0, 4.0, 2.0], [1.0, 2.0, 0.0]])


def test_one_variance_by_hand():
    """The squares of each row about its mean add up to 2."""
    found = pool([row[:, None] for row in SEEDS], paired=False)
    assert (found.variance, found.degrees) == (8 / 8, 8)
    residuals = SEEDS - SEEDS.mean(axis=0) - SEEDS.mean(axis=1, keepdims=True) + SEEDS.mean()
    found = pool([row[:, None] for row in SEEDS], paired=True)
    assert (found.variance, found.degrees) == (pytest.approx((residuals**2).sum() / 6), 6)
    assert found.members.all()


def test_what_a_seed_does_to_all_variants_is_taken_off_where_seeds_are_paired():
    lift = np.array([0.0, 10.0, -10.0])
    paired, raised = (pool([row[:, None] for row in SEEDS + add], paired=True) for add in (0, lift))
    np.testing.assert_allclose(paired.variance, raised.variance)
    assert pool([row[:, None] for row in SEEDS + lift], paired=False).variance > 50


@pytest.mark.parametrize("paired", [True, False])
def test_a_variant_whose_seeds_scatter_more_is_left_out_by_cochrans_test(paired):
    rng = np.random.default_rng(0)
    rows = 0.005 * rng.standard_normal((9, 3, 400))
    # Of tables of equal variances 5 in 100 lose a row.
    assert 0.02 < 1 - pool(list(rows), paired).members.all(axis=0).mean() < 0.09
    rows[4] *= 20
    found = pool(list(rows), paired)
    assert found.members[4].mean() < 0.06
    assert found.members[[0, 1, 2, 3, 5, 6, 7, 8]].mean() > 0.97
    np.testing.assert_allclose(np.median(found.variance), 0.005**2, rtol=0.15)


def test_two_variants_are_no_pool():
    assert not pool([row[:, None] for row in SEEDS[:2]], paired=True).members.any()


def test_identical_networks_scatter_by_nothing():
    found = pool([np.ones((3, 2))] * 4, paired=True)
    np.testing.assert_array_equal(found.variance, [0, 0])
    assert found.members.all()


def scores(rng, seeds, lift=0.005, **how):
    values = (
        0.5 + lift * rng.standard_normal((len(seeds), 1, 1)) + 0.02 * rng.standard_normal((len(seeds), 40, 1))
    )
    return Scores(values, seeds, **how)


def width(baseline, variants):
    found = estimate_contrasts(baseline, variants, replicates=999)
    return [(one.high - one.low).item() for one in found]


def test_rows_that_are_not_poolable_keep_the_estimate_of_their_own_seeds():
    rng = np.random.default_rng(3)
    baseline, *rows = (scores(rng, (0, 1, 2)) for _ in range(5))
    alone = [width(baseline, [row])[0] for row in rows]
    together = width(baseline, rows)
    assert np.mean(together) < 0.7 * np.mean(alone)
    apart = [Scores(row.values, row.seeds, poolable=False) for row in rows]
    assert width(baseline, apart) == alone


def test_unequal_seeds_are_pooled_without_pairs():
    rng = np.random.default_rng(4)
    baseline, *rows = (scores(rng, seeds) for seeds in ((0, 1, 2), (0, 1), (0, 1, 2, 3), (0, 1), (5,)))
    found = estimate_contrasts(baseline, rows, replicates=999)
    assert [len(contrast(row, baseline)) for row in rows] == [2] * 4
    means = [row.values.mean(axis=(1, 2)) for row in (baseline, *rows)]
    variance = sum(((one - one.mean()) ** 2).sum() for one in means) / (2 + 1 + 3 + 1)
    expected = [variance * (1 / 3 + 1 / count) for count in (2, 4, 2)] + [variance / 3]
    np.testing.assert_allclose([one.seeds.between.item() for one in found], expected)
