"""What the list of model versions says of each."""

from runner.cli.models import _score_in_its_sweep


def test_a_version_that_was_registered_by_hand_has_no_score():
    tags = {"metric": "validation/mma_3px", "score": "0.25"}
    assert _score_in_its_sweep(tags) == "validation/mma_3px 0.250 in its sweep"
    assert _score_in_its_sweep({}) == "registered by hand, no score"
