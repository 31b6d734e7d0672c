"""What a killed training held of the cluster is freed by the next one."""

from __future__ import annotations

import time

import pytest
import ray
from ray.util.placement_group import placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from r2d2.storage.location import open_store
from runner.record.attempt import Attempt
from runner.record.layout import reservation_name
from runner.trial.placement_group_cleanup import (
    free_reservations,
    leave_reservations,
    note_reservation,
)


class Controller:
    """Holds the only processor for a worker, as Ray Train's controller does."""

    def train(self, folder):
        group = placement_group([{"CPU": 1}])
        place = PlacementGroupSchedulingStrategy(group, placement_group_capture_child_tasks=True)
        note = ray.remote(num_cpus=1, scheduling_strategy=place)(note_reservation)
        ray.get(note.remote(open_store(folder), Attempt("", 2)))


@pytest.fixture(scope="module")
def one_cpu():
    ray.init("local", num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


def free_cpus_become(number: int) -> bool:
    deadline = time.monotonic() + 20
    while ray.available_resources().get("CPU", 0) != number and time.monotonic() < deadline:
        time.sleep(0.1)
    return ray.available_resources().get("CPU", 0) == number


def test_what_a_killed_controller_held_is_freed(one_cpu, tmp_path):
    trial = open_store(tmp_path)
    controller = ray.remote(num_cpus=0)(Controller).remote()
    ray.get(controller.train.remote(tmp_path))
    assert len(trial.files()) == 1
    ray.kill(controller)
    # An earlier attempt that is still alive leaves alone what is not its own.
    free_reservations(trial, Attempt("", 1))
    time.sleep(3)
    assert ray.available_resources().get("CPU", 0) == 0
    free_reservations(trial, Attempt("", 3))
    assert free_cpus_become(1)
    assert not trial.files()
    # Nothing is held any more.
    free_reservations(trial, Attempt("", 3))


def test_a_group_that_is_gone_is_no_error(one_cpu, tmp_path):
    trial = open_store(tmp_path)
    trial.write(reservation_name(0), b"00" * 14 + b"01000000")
    free_reservations(trial, None)
    assert not trial.files()


def test_at_the_end_of_a_training_nothing_is_raised(one_cpu, tmp_path, caplog):
    trial = open_store(tmp_path)
    trial.write(reservation_name(0), b"damaged")
    leave_reservations(trial, None)
    assert str(tmp_path) in caplog.text


def test_outside_of_a_group_nothing_is_written_down(one_cpu, tmp_path):
    note_reservation(open_store(tmp_path), None)
    assert not list(tmp_path.iterdir())
