"""What is claimed of intervals and p-values, checked in studies whose truth is known.

The generating model, in units of MMA (standard deviations): sequences differ in difficulty (0.15, common to
all variants), each variant suits each sequence differently (0.02), a seed lifts all variants (0.004) and each
one by itself (0.005), a network suits a sequence by chance (0.015), and its five pairs scatter (0.04).
"""

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from evaluation.statistics.bootstrap import estimate, holm
from evaluation.statistics.resampling import resample
from evaluation.statistics.student import student_quantiles

PAIRS = 5


def study(
    rng, studies, variants=1, sequences=108, seeds=3, interaction=0.02, seed=0.005, cell=0.015, pair=0.04
):
    """Scores of `variants` and a baseline, all with the same true mean: (1 + variants, R, S, studies)."""
    normal = rng.standard_normal
    shape = (1 + variants, seeds, sequences, studies)
    common = 0.15 * normal((1, 1, sequences, studies)) + 0.004 * normal((1, seeds, 1, studies))
    suits = interaction * normal((1 + variants, 1, sequences, studies))
    lifts = seed * normal((1 + variants, seeds, 1, studies))
    return 0.7 + common + suits + lifts + cell * normal(shape) + pair / PAIRS**0.5 * normal(shape)


def covered(samples, truth, replicates):
    """The share of the columns whose interval holds the truth, a few columns at a time to save memory."""
    hits = []
    for first in range(0, samples[0].shape[2], 250):
        found = estimate([sample[..., first : first + 250] for sample in samples], replicates)
        hits.append((found.low <= truth) & (truth <= found.high))
    return np.concatenate(hits).mean()


def alarms(scores, replicates):
    """The share of studies in which any variant is called different from the baseline (the first)."""
    differences = scores[1:] - scores[0]
    p = [
        [estimate([one[..., part : part + 250]], replicates).p for part in range(0, one.shape[2], 250)]
        for one in differences
    ]
    corrected = holm(np.array([np.concatenate(parts) for parts in p]))
    return (corrected < 0.05).any(axis=0).mean()


def test_the_interval_holds_the_truth_in_95_of_100_studies():
    baseline, variant = study(np.random.default_rng(1), studies=1000)
    assert 0.93 <= covered([variant + 0.01 - baseline], 0.01, replicates=999) <= 0.97


def test_no_difference_raises_no_alarm():
    scores = study(np.random.default_rng(2), studies=1000, variants=3)
    assert alarms(scores, replicates=999) <= 0.05


@pytest.mark.real_size
@pytest.mark.parametrize("sequences", [108, 52, 20, 6])
@pytest.mark.parametrize(
    "sizes",
    [
        {},
        {"interaction": 0},
        {"interaction": 0.05},
        {"seed": 0},
        {"seed": 0.001},
        {"seed": 0.02},
        {"cell": 0.05},
    ],
    ids=str,
)
def test_coverage_whatever_the_sizes_of_the_effects(sequences, sizes):
    baseline, variant = study(np.random.default_rng(3), 1000, sequences=sequences, **sizes)
    share = covered([variant + 0.01 - baseline], 0.01, replicates=9999)
    # Six sequences: too wide rather than too narrow where seeds weigh as much as sequences.
    assert 0.93 <= share <= (0.97 if sequences > 6 else 0.985)


@pytest.mark.real_size
@pytest.mark.parametrize("sequences", [108, 6])
def test_coverage_of_means_of_single_seeds_and_of_unrelated_seeds(sequences):
    baseline, variant = study(np.random.default_rng(4), 1000, sequences=sequences)
    shares = {
        "mean": covered([variant], 0.7, 9999),
        "unrelated seeds": covered([variant, -baseline], 0, 9999),
    }
    # A single seed: the truth is the difference of these two networks over all sequences.
    baseline, variant = study(np.random.default_rng(5), 1000, sequences=sequences, seeds=1, seed=0)
    shares["single seed"] = covered([variant[:1] - baseline[:1]], 0, 9999)
    assert all(0.93 <= share <= 0.985 for share in shares.values()), shares


@pytest.mark.real_size
@pytest.mark.parametrize("sequences", [108, 6])
@pytest.mark.parametrize("sizes", [{}, {"interaction": 0}, {"seed": 0}, {"seed": 0.02}], ids=str)
def test_false_alarms_among_ten_variants(sequences, sizes):
    rng = np.random.default_rng(6)
    shares = [
        alarms(study(rng, 1000, variants=9, sequences=sequences, **sizes), replicates=1999) for _ in range(3)
    ]
    assert np.mean(shares) <= 0.05, shares


def test_three_seeds_do_not_hide_that_they_are_few():
    """Only seeds differ: the interval is Student's with two degrees of freedom, 4.3 standard errors."""
    sample = np.array([-0.01, 0.0, 0.01])[:, None, None] + np.zeros((1, 108, 1))
    found = estimate([sample])
    half = 4.303 * 0.01 / 3**0.5
    np.testing.assert_allclose([found.low[0], found.high[0]], [-half, half], rtol=0.1)


@pytest.mark.parametrize(("sequences", "student"), [(2, 12.71), (3, 4.303), (6, 2.571), (108, 1.982)])
def test_few_sequences_get_the_tails_of_students_distribution(sequences, student):
    quantiles = (np.arange(sequences) + 0.5) / sequences
    values = np.log(quantiles / (1 - quantiles))[None, :, None]
    found = estimate([values])
    half = student * values.std(ddof=1) / sequences**0.5
    np.testing.assert_allclose([found.low[0], found.high[0]], [-half, half], rtol=0.2)


def test_skewed_scores_get_a_skewed_interval():
    values = np.random.default_rng(0).exponential(size=(1, 30, 1))
    found = estimate([values])
    assert found.high - found.value > 1.2 * (found.value - found.low)


def test_what_both_variants_share_drops_out():
    """Sequences of very different difficulty do not blur a difference that is the same on all."""
    rng = np.random.default_rng(0)
    difficulty = rng.uniform(0.1, 0.9, size=(1, 20, 1))
    first, second = (difficulty + 0.001 * rng.standard_normal((3, 20, 1)) for _ in range(2))
    alone, paired = estimate([first + 0.01]), estimate([first + 0.01 - second])
    assert alone.high - alone.low > 50 * (paired.high - paired.low)
    assert paired.p < 0.05


def test_a_seed_common_to_both_drops_out_only_if_it_is_paired():
    rng = np.random.default_rng(0)
    lift = np.array([-0.1, 0.0, 0.1])[:, None, None]
    first, second = (lift + 0.01 * rng.standard_normal((3, 40, 1)) for _ in range(2))
    paired, unrelated = estimate([first - second]), estimate([first, -second])
    assert unrelated.high - unrelated.low > 10 * (paired.high - paired.low)
    np.testing.assert_allclose(paired.value, unrelated.value)


def test_nothing_is_nothing():
    found = estimate([np.zeros((3, 10, 2))])
    for values in (found.value, found.low, found.high):
        np.testing.assert_array_equal(values, [0, 0])
    np.testing.assert_array_equal(found.p, [1, 1])


def test_a_single_sequence_gives_no_interval():
    found = estimate([np.full((3, 1, 1), 0.4)])
    np.testing.assert_allclose(found.value, [0.4])
    assert np.isnan([found.low, found.high, found.p]).all()


def test_the_same_table_twice_and_columns_by_themselves():
    sample = np.random.default_rng(0).standard_normal((1, 12, 3))
    once, again, alone = estimate([sample]), estimate([sample]), estimate([sample[..., 1:2]])
    np.testing.assert_array_equal(once.low, again.low)
    np.testing.assert_allclose(once.high[1], alone.high[0])


def test_a_draw_is_as_many_sequences_with_replacement():
    drawn = resample(7, replicates=2000)
    np.testing.assert_array_equal(drawn.counts.sum(axis=1), 7)
    np.testing.assert_allclose(drawn.counts.mean(axis=0), 1, atol=0.1)
    np.testing.assert_array_equal(drawn.noise[drawn.counts == 0], 0)


def test_studentised_by_the_draws_themselves():
    """The sums give what the draws, written out, give."""
    n, replicates = 5, 40
    values = np.random.default_rng(0).normal(3, 2, size=(n, 1))
    rng = np.random.default_rng((20190828, n))
    drawn = rng.integers(n, size=(replicates, n))
    noise = rng.standard_normal((replicates, n))
    unit = (values[:, 0] - values.mean()) / values.std(ddof=1)
    draws = unit[drawn] + 1.06 * n**-0.2 * noise
    expected = draws.mean(axis=1) / (draws.std(axis=1, ddof=1) / n**0.5)
    np.testing.assert_allclose(resample(n, replicates).studentised(values)[:, 0], expected)


@pytest.mark.parametrize(
    ("degrees", "quantile"),
    [(1, 12.706), (2, 4.3027), (3.5, 2.9388), (4, 2.7764), (30, 2.0423), (1e6, 1.95996)],
)
def test_students_quantiles(degrees, quantile):
    """Against the tables: 2.5 % lie beyond."""
    found = student_quantiles(np.array([degrees]), 9999)[:, 0]
    np.testing.assert_allclose(np.quantile(found, [0.025, 0.5, 0.975]), [-quantile, 0, quantile], rtol=2e-3)


def test_holm_by_hand():
    np.testing.assert_allclose(holm(np.array([0.01, 0.04, 0.03])), [0.03, 0.06, 0.06])
    np.testing.assert_allclose(holm(np.array([[0.5], [0.6]])), [[1], [1]])
    np.testing.assert_allclose(holm(np.array([0.02])), [0.02])
    assert np.isnan(holm(np.array([np.nan, np.nan]))).all()


def test_the_p_value_of_the_tail_is_that_of_the_draws_where_those_are_many():
    baseline, variant = study(np.random.default_rng(7), studies=200, interaction=0.01)
    found = estimate([variant + 0.004 - baseline], replicates=9_999)
    known = found.p > 0.01
    np.testing.assert_allclose(found.tail_p(0.0)[known], found.p[known], rtol=0.1, atol=0.003)


def test_the_p_value_of_the_tail_is_students_where_sequences_do_not_matter():
    """Five seeds of a difference, the same on every sequence."""
    seeds = np.array([0.011, 0.013, 0.012, 0.016, 0.010])
    found = estimate([np.tile(seeds[:, None, None], (1, 6, 1))], replicates=999)
    assert found.tail_p(0.0)[0] == pytest.approx(ttest_1samp(seeds, 0).pvalue, rel=0.01)
    assert found.p[0] == pytest.approx(2 / 1000)


def test_the_interval_of_the_tail_holds_what_has_at_least_that_p_value():
    baseline, variant = study(np.random.default_rng(8), studies=3)
    found = estimate([variant - baseline], replicates=999)
    for column in range(3):
        low, high = found.tail_interval(0.001, column)
        assert low < found.value[column] < high
        assert found.tail_p(low)[column] == pytest.approx(0.001, rel=1e-3)
        assert found.tail_p(high)[column] == pytest.approx(0.001, rel=1e-3)
