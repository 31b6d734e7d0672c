"""What may be set about lost workers, and what a cluster must hold then."""

import pytest

from evaluation.actor import EvaluatorResources
from r2d2.config import TrainConfig
from runner.cluster.connect import Capacity
from runner.cluster.resilience import Resilience
from runner.cluster.resources import WorkerResources
from search_spaces.sweep import Trial


@pytest.mark.parametrize("name", ["checkpoint_steps", "min_workers", "silence", "max_restarts"])
def test_numbers_below_zero_are_refused_by_their_option(name):
    with pytest.raises(ValueError, match=f"--{name.replace('_', '-')} is -1; it must be at least 0"):
        Resilience(**{name: -1})


def test_a_trial_starts_with_all_its_workers_unless_told_that_fewer_will_do():
    assert Resilience().fewest_workers(4) == 4
    assert Resilience(min_workers=2).fewest_workers(4) == 2
    assert Resilience(min_workers=2).fewest_workers(1) == 1


def test_a_cluster_smaller_than_a_trial_holds_it_if_fewer_workers_will_do():
    trials, evaluators = (Trial(TrainConfig(num_workers=4)),), EvaluatorResources()
    with pytest.raises(ValueError, match="a trial asks for 4 workers"):
        Capacity(3, 0).concurrent_trials(trials, evaluators, WorkerResources())
    fewest = Resilience(min_workers=2).fewest_workers
    assert Capacity(3, 0).concurrent_trials(trials, evaluators, WorkerResources(), fewest) == 1
    assert Capacity(9, 0).concurrent_trials(trials, evaluators, WorkerResources(), fewest) == 2
    with pytest.raises(ValueError, match="a trial asks for 2 workers"):
        Capacity(1, 0).concurrent_trials(trials, evaluators, WorkerResources(), fewest)
