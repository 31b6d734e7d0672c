"""What is known of an epoch in its middle comes back exactly, whoever computes its parts afterwards."""

import pytest

from r2d2.training.metrics import StepReport, combine_workers, summarise
from runner.trial.partial_epoch import PartialEpoch, merged


def report(step, part, total=0.1):
    refused = (("bad.jpg", "truncated"),) if part else ()
    statistics = {"valid_queries": 7.0, "pairs_without_query": 0.0, "query_reliability": 1 / 3}
    return StepReport(step, part, total, {"similarity": total / 3}, statistics, 4, 1, refused, 0.5, 1e-3)


def partial(parts=(0, 1), steps=2):
    found = PartialEpoch(3)
    for step in range(steps):
        for part in parts:
            found.add(report(step, part, 0.1 + step / 7))
    return found


def test_it_comes_back_to_the_last_bit(tmp_path):
    partial().save(tmp_path)
    assert PartialEpoch.load(tmp_path) == partial()
    assert PartialEpoch.load(tmp_path).steps == 2


def test_a_checkpoint_at_the_end_of_an_epoch_has_none(tmp_path):
    assert PartialEpoch.load(tmp_path) is None
    assert PartialEpoch(1).steps == 0


def test_a_damaged_one_is_refused(tmp_path):
    (tmp_path / "partial_epoch.json").write_text('{"epoch": 3, "reports": {"0": [{"step": 1}]}}')
    with pytest.raises(ValueError, match="reports of a checkpoint in mid-epoch are damaged"):
        PartialEpoch.load(tmp_path)


def test_parts_may_change_hands_and_the_metrics_stay_those_of_all():
    whole = partial((0, 1, 2))
    two = [whole.of_parts((0, 2)), whole.of_parts((1,))]
    assert merged(reversed(two)) == whole
    each = [summarise(whole.reports[part]) for part in (0, 1, 2)]
    assert merged(two).metrics() == combine_workers(each)
