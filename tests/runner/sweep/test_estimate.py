"""What a sweep takes on one machine: how many trials at a time, and durations in units that fit them."""

from dataclasses import replace

import pytest

from r2d2.config import ComputeConfig, TrainConfig
from r2d2.training.siamese import SiameseNetwork
from runner.cluster.resources import WorkerResources
from runner.sweep import estimate
from runner.sweep.estimate import duration, slots
from search_spaces.sweep import Trial


@pytest.mark.parametrize(
    ("config", "cpus", "gpus", "at_a_time"),
    [
        ({}, 2, 0, 2),
        ({"num_workers": 2}, 8, 1, 1),
        ({"data": {"loader_processes": 15}}, 64, 8, 4),
        ({"data": {"loader_processes": 3}}, 2, 0, 1),
    ],
)
def test_as_many_trials_at_a_time_as_the_scarcer_of_cpus_and_gpus_allows(config, cpus, gpus, at_a_time):
    assert slots([Trial(TrainConfig.from_dict(config))], WorkerResources(), cpus, gpus) == at_a_time


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.4, "59 s"), (60, "1 min"), (7199, "120 min"), (7200, "2.0 h"), (360000, "100.0 h")],
)
def test_the_unit_fits_the_size(seconds, text):
    assert duration(seconds) == text


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
    assert all(estimate.step_seconds(config, threads=1) > 0 for config in (usual, short))
    assert precisions == [False, True]
    assert estimate.kind_of(Trial(usual)) != estimate.kind_of(Trial(short))
