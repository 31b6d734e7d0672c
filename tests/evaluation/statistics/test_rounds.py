"""Questions are answered round by round, and the answers are right as often as is claimed."""

import numpy as np
import pytest

from evaluation.statistics.contrasts import Scores
from evaluation.statistics.power import Variances, forecast
from evaluation.statistics.rounds import Question, decide

SEQUENCES = 12
# Of a difference of two rows: what a seed does to one row has the standard deviation 0.005.
VARIANCES = Variances(seed=2 * 0.005**2, cell=2 * 0.015**2)


def rows(gains, seeds, rng):
    """Scores of a baseline and of variants with known gains."""
    sequences = 0.6 + 0.15 * rng.standard_normal((1, SEQUENCES, 1))
    return {
        name: Scores(
            sequences
            + gain
            + 0.005 * rng.standard_normal((seeds, 1, 1))
            + 0.015 * rng.standard_normal((seeds, SEQUENCES, 1)),
            tuple(range(seeds)),
        )
        for name, gain in {"control": 0.0, **gains}.items()
    }


def answered(gains, question, seed=0, seeds=None, **how):
    scores = rows(gains, seeds or question.most_seeds, np.random.default_rng(seed))
    numbers = tuple(range(question.most_seeds))
    return decide(scores, dict.fromkeys(gains, "control"), numbers, question, replicates=999, **how)


def last(rounds):
    return {one.variant: one for decisions in rounds for one in decisions}


def test_a_large_gain_is_found_after_few_seeds_and_gets_no_more():
    found = last(answered({"dice": 0.1, "jaccard": 0.0}, Question(0.02, 12)))
    assert found["dice"].answer == "better"
    assert found["dice"].seeds < 12
    assert 0 < found["dice"].low < found["dice"].estimate < found["dice"].high


def test_a_loss_is_worse():
    assert last(answered({"dice": -0.1}, Question(0.02, 6)))["dice"].answer == "worse"


def test_of_an_error_the_smaller_one_is_better():
    assert (
        last(answered({"dice": -0.1}, Question(0.02, 6), smaller_is_better=True))["dice"].answer == "better"
    )


def test_a_change_of_nothing_is_equivalent_and_never_worse():
    scores = rows({"dice": 0.0}, 3, np.random.default_rng(0))
    same = {"dice": scores["control"], "control": scores["control"]}
    (first, *further) = decide(same, {"dice": "control"}, (0, 1, 2), Question(0.02, 3), replicates=999)
    assert (first[0].answer, first[0].estimate, further) == ("equivalent", 0.0, [])


def test_of_one_sequence_no_interval_is_known():
    scores = rows({"dice": 0.1}, 3, np.random.default_rng(0))
    one = {name: Scores(row.values[:, :1], row.seeds) for name, row in scores.items()}
    found = last(decide(one, {"dice": "control"}, (0, 1, 2), Question(0.02, 3), replicates=999))["dice"]
    assert (found.answer, np.isnan([found.low, found.high]).all()) == ("undecided", True)


def test_equal_variants_are_equivalent_within_a_wide_margin():
    found = last(answered({"dice": 0.0, "jaccard": 0.0}, Question(0.02, 12, margin=0.05)))
    assert {one.answer for one in found.values()} == {"equivalent"}


def test_without_a_margin_a_variant_without_hope_gets_no_more_seeds():
    found = last(answered({"dice": 0.0}, Question(0.005, 12), seed=3))["dice"]
    assert found.answer in ("undecided", "equivalent")
    assert found.seeds < 12
    assert found.chance < 0.15 or found.answer == "equivalent"


def test_every_variant_has_an_answer_after_the_last_round():
    found = last(answered({"dice": 0.006, "jaccard": 0.004}, Question(0.005, 4, margin=0.005)))
    assert "open" not in {one.answer for one in found.values()}


def test_former_rounds_do_not_depend_on_later_seeds():
    question = Question(0.01, 8)
    gains = {"dice": 0.01, "jaccard": 0.0}
    scores = rows(gains, 8, np.random.default_rng(5))
    baselines = dict.fromkeys(gains, "control")
    whole = decide(scores, baselines, tuple(range(8)), question, replicates=999)
    for seeds in range(2, 8):
        cut = {name: Scores(row.values[:seeds], row.seeds[:seeds]) for name, row in scores.items()}
        assert decide(cut, baselines, tuple(range(8)), question, replicates=999) == whole[: seeds - 1]


def test_a_variant_without_the_scores_of_a_round_waits_for_the_next():
    question = Question(0.02, 6)
    scores = rows({"dice": 0.1, "jaccard": 0.1}, 6, np.random.default_rng(0))
    late = scores["jaccard"]
    scores["jaccard"] = Scores(late.values[1:], late.seeds[1:])
    found = last(
        decide(scores, {"dice": "control", "jaccard": "control"}, tuple(range(6)), question, replicates=999)
    )
    assert found["dice"].answer == "better"
    assert "jaccard" not in found


@pytest.mark.parametrize(
    ("gain", "seeds", "margin", "said"),
    [
        (0, 6, None, "gain of a question is 0"),
        (0.01, 1, None, "2 is the smallest"),
        (0.01, 6, 0, "margin of a question is 0"),
    ],
)
def test_a_question_that_has_no_answer_is_refused(gain, seeds, margin, said):
    with pytest.raises(ValueError, match=said):
        Question(gain, seeds, margin)


def test_looking_after_every_round_does_not_raise_false_alarms():
    """Four equal variants, 200 studies: with 5 % each look alone would be wrong in far more."""
    wrong = 0
    for study in range(200):
        found = last(answered(dict.fromkeys("abcd", 0.0), Question(0.02, 6), seed=100 + study))
        wrong += any(one.answer in ("better", "worse") for one in found.values())
    # 10 is 5 %; 18 is exceeded by chance in 1 % of such tests.
    assert wrong <= 18


def test_a_true_difference_is_rarely_called_equivalent():
    wrong = 0
    for study in range(200):
        found = last(answered({"a": 0.01}, Question(0.01, 6, margin=0.01), seed=1000 + study))
        wrong += found["a"].answer == "equivalent"
    assert wrong <= 18


def test_the_forecast_finds_gains_with_fewer_trainings_than_a_fixed_design():
    told = forecast(Question(0.01, 12), VARIANCES, (0.01,) * 4 + (0.0,) * 4, sequences=108)
    # Nine seeds of nine rows find as many.
    assert told.found >= 0.83
    assert told.trainings <= 0.7 * 81


def test_a_forecast_without_a_gain_finds_none():
    told = forecast(Question(0.01, 8, margin=0.01), VARIANCES, (0.0,) * 8, sequences=108)
    assert np.isnan(told.found)
    assert told.decided > 0.85
