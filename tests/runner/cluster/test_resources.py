"""What a worker asks for is what it uses: it reaches Ray, and its threads reach PyTorch."""

import pytest
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

import runner.trial.driver
import runner.trial.worker
from r2d2.config import TrainConfig
from r2d2.storage.location import open_store
from runner.cluster.resources import WorkerResources
from runner.trial.scoring import TrialContext
from runner.trial.task import WorkerTask

ALONE = TrainConfig()
FED = TrainConfig.from_dict({"data": {"loader_processes": 3}})


def test_loader_processes_are_asked_for():
    assert WorkerResources().of(ALONE) == {"CPU": 1}
    assert WorkerResources(0.5).of(FED) == {"CPU": 4, "GPU": 0.5}
    assert WorkerResources(0.5).describe(FED) == "4 CPUs and 0.5 GPU"
    assert WorkerResources(2).describe(ALONE) == "1 CPU and 2 GPUs"


@pytest.mark.parametrize(("cpus", "threads"), [(None, 1), (2, 1), (6, 3)])
def test_threads_compute_on_what_loader_processes_leave(cpus, threads):
    assert WorkerResources(cpus=cpus).threads_of(FED) == threads


def test_ray_and_the_worker_are_told(tmp_path, monkeypatch):
    told = {}
    monkeypatch.setattr(
        runner.trial.driver, "_kind_of_trainer", lambda *_: lambda _worker, **how: told.update(how)
    )
    monkeypatch.setattr(runner.trial.driver, "this_node", lambda: "here")
    worker = WorkerResources(0.5, cpus=6)
    context = TrialContext(
        str(tmp_path), None, (), {"scratch": "scratch"}, worker, "validation/mma_3px", "max"
    )
    runner.trial.driver._trainer(FED, open_store(str(tmp_path)), context)
    assert told["scaling_config"].resources_per_worker == {"CPU": 6, "GPU": 0.5}
    task = WorkerTask(**told["train_loop_config"])
    assert (task.threads, task.gpus) == (3, 0.5)


@pytest.mark.parametrize(("gpus", "backend"), [(0.0, None), (0.5, "gloo"), (1.0, None), (2.0, None)])
def test_workers_that_share_a_gpu_are_joined_by_gloo(gpus, backend):
    """NCCL refuses two workers on one GPU. None: NCCL on GPUs, Gloo without."""
    assert runner.trial.driver._kind_of_trainer(2, gpus).keywords["torch_config"].backend == backend
    assert runner.trial.driver._kind_of_trainer(1, gpus) is DataParallelTrainer


def test_pytorch_is_told(tmp_path, monkeypatch):
    def fail():
        raise OSError("begun")

    told = []
    monkeypatch.setattr(runner.trial.worker.torch, "set_num_threads", told.append)
    monkeypatch.setattr(runner.trial.worker, "keep_memory", fail)
    with pytest.raises(OSError, match="begun"):
        runner.trial.worker.work(WorkerTask(FED.to_dict(), "scratch", str(tmp_path), threads=3, started=0.0))
    assert told == [3]
