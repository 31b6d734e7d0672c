"""What a cluster holds and what it will cost, worked out by hand."""

import io

import pytest
from rich.console import Console

from runner.cluster.connect import Capacity
from runner.cluster.resources import WorkerResources
from runner.settings import Settings
from runner.sweep.cluster_estimate import ClusterEstimate, elapsed
from runner.sweep.estimate import kind_of
from runner.sweep.plan import SweepOptions, plan_sweep
from runner.sweep.run import shares


@pytest.fixture(scope="module")
def make_plan(tmp_path_factory):
    settings = Settings.from_environment({"R2D2_HOME": str(tmp_path_factory.mktemp("home"))})
    return lambda *overrides: plan_sweep("smoke", settings, SweepOptions(overrides=overrides))


def shown(estimate: ClusterEstimate) -> str:
    console = Console(width=200, file=io.StringIO(), record=True)
    estimate.show(console)
    return console.export_text()


def test_trials_start_as_soon_as_a_slot_is_free():
    assert elapsed([4, 3, 2, 1], 2) == 5
    assert elapsed([4, 3, 2, 1], 1) == 10
    assert elapsed([4, 3, 2, 1], 9) == 4


def test_hours_count_every_worker_and_every_gpu_of_it(make_plan):
    plan = make_plan("num_workers=2")
    seconds = {trial.key: 1800.0 for trial in plan.trials}
    estimate = ClusterEstimate(
        plan, Capacity(8, 2), WorkerResources(0.5), 1, seconds, "10 s per epoch, as given", 3.0
    )
    # Two trials of half an hour, two workers each, half a GPU a worker.
    assert estimate.hours == 1.0
    text = shown(estimate)
    assert "8 CPUs and 2 GPUs; a trial takes 2 workers of 1 CPU and 0.5 GPU." in text
    assert "1 of 2 trials run at once." in text
    assert "About 1.00 GPU hours, 60 min from start to end (10 s per epoch, as given" in text
    assert "At 3 per GPU hour: 3.00." in text


def test_without_gpus_cpu_hours_are_told(make_plan):
    plan = make_plan()
    seconds = {trial.key: 3600.0 for trial in plan.trials}
    text = shown(ClusterEstimate(plan, Capacity(8, 0), WorkerResources(), 8, seconds, "x"))
    assert "2 of 2 trials run at once." in text
    assert "About 2.00 CPU hours, 60 min" in text
    # Each worker's CPUs count.
    fed = ClusterEstimate(plan, Capacity(8, 0), WorkerResources(cpus=3), 8, seconds, "x")
    assert fed.hours == 6.0
    assert "a trial takes 1 worker of 3 CPUs." in shown(fed)
    assert "At " not in text


def test_what_an_autoscaler_may_add_counts(make_plan):
    plan = make_plan("num_workers=4")
    with pytest.raises(ValueError, match=r"asks for 4 workers .* but the cluster has 0 CPUs"):
        shares(plan, Capacity(0, 0))
    assert shares(plan, Capacity(0, 0).grown(8, 8)) == (WorkerResources(1.0), 2)


def test_trials_that_differ_in_their_loss_are_timed_once(make_plan):
    assert len({kind_of(trial) for trial in make_plan().trials}) == 1
