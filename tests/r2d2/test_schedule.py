"""The learning rate of every step, by hand."""

from itertools import pairwise

import pytest

from r2d2.config import TrainConfig
from r2d2.schedule import SCHEDULES, OptimiserConfig, learning_rate


def rates(total, **settings):
    config = OptimiserConfig(learning_rate=1.0, **settings)
    return [learning_rate(config, step, total) for step in range(total)]


def test_by_default_it_never_changes():
    config = OptimiserConfig(learning_rate=0.003)
    assert [learning_rate(config, step, 7) for step in range(7)] == [0.003] * 7


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"schedule": "linear", "final_share": 0.0}, [1, 0.75, 0.5, 0.25, 0]),
        ({"schedule": "linear", "final_share": 0.2}, [1, 0.8, 0.6, 0.4, 0.2]),
        ({"schedule": "cosine", "final_share": 0.0}, [1, 0.853553, 0.5, 0.146447, 0]),
        ({"schedule": "cosine", "final_share": 0.5}, [1, 0.926777, 0.75, 0.573223, 0.5]),
        ({"schedule": "constant", "warmup_steps": 4}, [0.25, 0.5, 0.75, 1, 1]),
        ({"schedule": "linear", "warmup_steps": 2, "final_share": 0.0}, [0.5, 1, 1, 0.5, 0]),
        ({"schedule": "cosine", "warmup_steps": 2, "final_share": 0.0}, [0.5, 1, 1, 0.5, 0]),
    ],
)
def test_five_steps(settings, expected):
    assert rates(5, **settings) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("schedule", sorted(SCHEDULES))
def test_a_training_shorter_than_its_warm_up_only_climbs(schedule):
    assert rates(3, schedule=schedule, warmup_steps=10) == pytest.approx([0.1, 0.2, 0.3])


@pytest.mark.parametrize("schedule", sorted(SCHEDULES))
def test_a_training_of_one_step_has_the_peak(schedule):
    assert rates(1, schedule=schedule) == [1.0]


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_by_default_a_decay_ends_at_a_twentieth(schedule):
    found = rates(100, schedule=schedule, warmup_steps=10)
    assert found[-1] == pytest.approx(0.05)
    assert found[9] == found[10] == 1.0
    assert all(later < earlier for earlier, later in pairwise(found[10:]))


def test_an_unknown_schedule_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"unknown schedule 'step' .*; known: constant, cosine, linear"):
        TrainConfig.from_dict({"optimiser": {"schedule": "step"}})
