"""What a cluster can hold, and who is told when it cannot."""

import gc
import tempfile
from pathlib import Path

import pytest
from ports import free_port

from evaluation.actor import EvaluatorResources
from r2d2.config import TrainConfig
from runner.cluster.connect import Capacity, _leave, ray_cluster
from runner.cluster.resources import WorkerResources
from search_spaces.sweep import Trial


def trials(workers: int) -> tuple[Trial, ...]:
    return (Trial(TrainConfig()), Trial(TrainConfig.from_dict({"num_workers": workers})))


@pytest.mark.parametrize(
    ("cpus", "gpus", "evaluators", "workers", "gpus_per_worker", "fits"),
    [
        (16, 0, EvaluatorResources(1, 0, 0), 1, 0, 16),
        (16, 0, EvaluatorResources(2, 2, 0), 4, 0, 3),
        (16, 4, EvaluatorResources(1, 0, 1), 1, 1, 3),
        (16, 1, EvaluatorResources(1, 0, 0.5), 1, 0.25, 2),
    ],
)
def test_as_many_trials_as_fit_beside_the_evaluators(cpus, gpus, evaluators, workers, gpus_per_worker, fits):
    worker = WorkerResources(gpus_per_worker)
    assert Capacity(cpus, gpus).concurrent_trials(trials(workers), evaluators, worker) == fits


def test_fractions_are_counted_as_ray_counts_them():
    """In binary fractions 1 - 2 * 0.2 is less than 3 * 0.2, and 0.3 / 0.1 less than 3."""
    evaluators = EvaluatorResources(2, 0, 0.2)
    assert Capacity(16, 1).concurrent_trials(trials(3), evaluators, WorkerResources(0.2)) == 1
    node = {"CPU": 16.0, "GPU": 0.3}
    assert (
        Capacity(16, 0.3, (node,)).concurrent_trials(trials(3), EvaluatorResources(), WorkerResources(0.1))
        == 1
    )
    with pytest.raises(ValueError, match=r"but the cluster has 0\.6 GPUs beside the evaluation actors"):
        Capacity(16, 1).concurrent_trials(trials(3), evaluators, WorkerResources(0.21))


@pytest.mark.parametrize("gpus", [1, 2, 3])
@pytest.mark.parametrize("number", [1, 2, 5])
def test_what_fits_in_hundredths_fits(gpus, number):
    for part in range(1, 100):
        for of_evaluators in (0, 1, 7, 10, 20, 33):
            there = 100 * gpus - number * of_evaluators
            fits = there // part
            if there < 0 or not fits:
                continue
            found = Capacity(1000, gpus).concurrent_trials(
                trials(1), EvaluatorResources(number, 0, of_evaluators / 100), WorkerResources(part / 100)
            )
            assert found == fits, (part, of_evaluators)


def test_loader_processes_and_what_is_asked_for_count():
    evaluators = EvaluatorResources()
    fed = (Trial(TrainConfig.from_dict({"num_workers": 2, "data": {"loader_processes": 3}})),)
    assert Capacity(16, 2).concurrent_trials(fed, evaluators, WorkerResources(1)) == 1
    assert Capacity(16, 0).concurrent_trials(fed, evaluators, WorkerResources()) == 2
    assert Capacity(16, 0).concurrent_trials(fed, evaluators, WorkerResources(cpus=1)) == 8
    with pytest.raises(
        ValueError, match=r"2 workers of 4 CPUs each, but the cluster has 7 CPUs .*loader_proc"
    ):
        Capacity(7, 0).concurrent_trials(fed, evaluators, WorkerResources())


def test_each_worker_lies_on_one_node_as_a_whole():
    config = {"num_workers": 2, "data": {"loader_processes": 4}}
    fed, evaluators = (Trial(TrainConfig.from_dict(config)),), EvaluatorResources()
    node = {"CPU": 8.0, "memory": 1.0}
    assert Capacity(24, 0, (node, node, node)).concurrent_trials(fed, evaluators, WorkerResources()) == 1
    assert Capacity(32, 0, (node,) * 4).concurrent_trials(fed, evaluators, WorkerResources()) == 2
    small = Capacity(16, 0, ({"CPU": 4.0},) * 4)
    with pytest.raises(ValueError, match="2 workers of 5 CPUs each, but the cluster's nodes hold 0"):
        small.concurrent_trials(fed, evaluators, WorkerResources())
    # Nodes that an autoscaler adds may be larger.
    assert small.grown(16, 0) == small
    assert small.grown(20, 0).concurrent_trials(fed, evaluators, WorkerResources()) == 2


@pytest.mark.parametrize(
    ("evaluators", "workers", "gpus_per_worker", "sentence"),
    [
        (
            EvaluatorResources(1, 0, 1),
            1,
            0,
            "the evaluation actors ask for 1 times 1 GPUs .* the cluster has 0 GPUs",
        ),
        (
            EvaluatorResources(3, 2, 0),
            1,
            0,
            "the evaluation actors ask for 3 times 2 CPUs .* the cluster has 4 CPUs",
        ),
        (
            EvaluatorResources(1, 2, 0),
            3,
            0,
            "a trial asks for 3 workers of 1 CPU each, .* has 2 CPUs beside the evaluation actors",
        ),
        (
            EvaluatorResources(1, 0, 0),
            1,
            1,
            "a trial asks for 1 worker of 1 CPU and 1 GPU each, .* has 0 GPUs",
        ),
    ],
)
def test_who_asks_for_too_much_is_named(evaluators, workers, gpus_per_worker, sentence):
    with pytest.raises(ValueError, match=sentence):
        Capacity(4, 0).concurrent_trials(trials(workers), evaluators, WorkerResources(gpus_per_worker))


def test_no_garbage_is_collected_while_the_cluster_is_left():
    collecting = []

    def shut_down():
        collecting.append(gc.isenabled())
        raise OSError("away")

    with pytest.raises(OSError, match="away"):
        _leave(shut_down)
    assert (collecting, gc.isenabled()) == ([False], True)


@pytest.mark.cluster
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_without_an_address_a_cluster_that_ray_start_left_is_not_joined(monkeypatch):
    # A socket's path is short. In this file `ray start` writes down what it has started; nobody listens
    # there, so that joining would fail.
    with tempfile.TemporaryDirectory(dir="/tmp", ignore_cleanup_errors=True) as folder:
        (Path(folder) / "ray").mkdir()
        (Path(folder) / "ray" / "ray_current_cluster").write_text(f"127.0.0.1:{free_port()}")
        monkeypatch.setenv("RAY_TMPDIR", folder)
        monkeypatch.delenv("RAY_ADDRESS", raising=False)
        with ray_cluster(None, verbose=False) as own:
            assert own.cpus > 0
