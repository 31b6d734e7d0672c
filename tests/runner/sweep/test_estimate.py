"""What a sweep takes on a machine or a cluster, worked out by hand; durations in units that fit them."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from r2d2.config import ComputeConfig, TrainConfig
from r2d2.training.siamese import SiameseNetwork
from runner.cluster.connect import Capacity
from runner.cluster.resources import WorkerResources
from runner.record.command import RunOptions
from runner.settings import Settings
from runner.sweep import estimate
from runner.sweep.estimate import Estimate, duration, kind_of
from runner.sweep.plan import SweepOptions, plan_sweep
from runner.sweep.run import shares
from search_spaces.sweep import Trial


@pytest.fixture(scope="module")
def make_plan(tmp_path_factory):
    settings = Settings.from_environment({"R2D2_HOME": str(tmp_path_factory.mktemp("home"))})
    return lambda *overrides: plan_sweep("smoke", settings, SweepOptions(run=RunOptions(overrides=overrides)))


def shown(found: Estimate) -> str:
    console = Console(width=200, file=io.StringIO(), record=True)
    found.show(console)
    return console.export_text()


def test_the_wall_time_is_that_of_all_trials_over_the_trials_at_a_time_or_of_the_longest(make_plan):
    plan = make_plan()
    seconds = dict(zip((trial.key for trial in plan.trials), (4.0, 2.0), strict=True))
    times = [Estimate(plan, Capacity(8, 0), WorkerResources(), n, seconds, "x").elapsed for n in (1, 2)]
    assert times == [6.0, 4.0]


def test_what_a_machine_cannot_hold_is_estimated_all_the_same(make_plan, monkeypatch):
    monkeypatch.setattr(estimate, "usable_cpus", lambda: 2)
    plan = make_plan("num_workers=4")
    settings = Settings.from_environment({})
    found = estimate.estimate(plan, settings, seconds_per_epoch=10.0)
    assert "no trial fits on 2 CPUs and 0 GPUs: a trial takes 4 workers of 1 CPU" in shown(found)
    assert estimate.estimate(make_plan(), settings, seconds_per_epoch=10.0).concurrent == 2


def test_hours_count_every_worker_and_every_gpu_of_it(make_plan):
    plan = make_plan("num_workers=2")
    seconds = {trial.key: 1800.0 for trial in plan.trials}
    found = Estimate(plan, Capacity(8, 2), WorkerResources(0.5), 1, seconds, "10 s per epoch, as given", 3.0)
    # Two trials of half an hour, two workers each, half a GPU a worker.
    assert found.hours == 1.0
    text = shown(found)
    assert "2 trials and 1 starting networks; 1 at a time on 8 CPUs and 2 GPUs: a trial takes " in text
    assert "takes 2 workers of 1 CPU and 0.5 GPU." in text
    assert "About 1.00 GPU hours, 60 min from start to end (10 s per epoch, as given" in text
    assert "At 3 per GPU hour: 3.00." in text


def test_without_gpus_cpu_hours_are_told(make_plan):
    plan = make_plan()
    seconds = {trial.key: 3600.0 for trial in plan.trials}
    text = shown(Estimate(plan, Capacity(8, 0), WorkerResources(), 8, seconds, "x"))
    assert "2 at a time on 8 CPUs" in text
    assert "About 2.00 CPU hours, 60 min" in text
    # Each worker's CPUs count.
    fed = Estimate(plan, Capacity(8, 0), WorkerResources(cpus=3), 8, seconds, "x")
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


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.4, "59 s"), (60, "1 min"), (7199, "120 min"), (7200, "2.0 h"), (360000, "100.0 h")],
)
def test_the_unit_fits_the_size(seconds, text):
    assert duration(seconds) == text


def test_a_step_is_timed_on_what_a_worker_asks_for(make_plan, monkeypatch):
    asked = []
    monkeypatch.setattr(estimate, "step_seconds", lambda *what: asked.append(what[-1]) or 1.0)
    kinds = {kind_of(trial): trial.config for trial in make_plan().trials}
    for gpus, there in ((0.0, True), (0.5, True), (0.5, False)):
        monkeypatch.setattr(estimate.torch.cuda, "is_available", lambda there=there: there)
        estimate._time_here(kinds, WorkerResources(gpus))
    assert asked == ["cpu", "cuda", "cpu"]
    assert [estimate.device_of(WorkerResources(gpus)) for gpus in (0.0, 0.2, 1.0)] == ["cpu", "cuda", "cuda"]


def test_a_step_is_timed_in_the_arithmetic_of_its_trial(monkeypatch):
    precisions = []

    class Noted(SiameseNetwork):
        def __init__(self, network, **options):
            super().__init__(network, **options)
            precisions.append(self.autocast)

    monkeypatch.setattr(estimate, "SiameseNetwork", Noted)
    usual = TrainConfig.from_dict(
        {"network": {"channels": 1, "dim": 8}, "data": {"crop_size": 64}, "pairs_per_worker": 1, "epochs": 1}
    )
    short = replace(usual, compute=ComputeConfig("bfloat16"))
    assert all(estimate.step_seconds(config, 1, "cpu") > 0 for config in (usual, short))
    assert precisions == [False, True]
    assert estimate.kind_of(Trial(usual)) != estimate.kind_of(Trial(short))
