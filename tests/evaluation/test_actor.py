"""The pool of evaluators: an evaluator that dies loses nothing, and one that cannot score says why."""

import asyncio
import errno
import os
import signal
import time

import numpy as np
import pytest
import ray
import torch
from processes import naming, parent_of, title_of

from evaluation.actor import (
    ATTEMPTS,
    BenchmarkSpec,
    BrokenGPU,
    Evaluator,
    EvaluatorPool,
    EvaluatorResources,
    _gpu_shared,
    reserved_device,
    start_pool,
)
from evaluation.benchmarks.validation import build_validation_benchmark
from evaluation.evaluation import Evaluation
from evaluation.pictures.examples import unpack_examples
from evaluation.pictures.maps import unpack_maps
from r2d2.checkpoint import save_checkpoint
from r2d2.config import TrainConfig
from r2d2.data.photos import open_photos, split
from r2d2.network import build_network
from r2d2.storage.errors import DiskFull

pytestmark = [
    pytest.mark.cluster,
    # Ray leaves sockets and processes for its own exit handlers to close.
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
]

CONFIG = TrainConfig.from_dict({"network": {"channels": 1, "dim": 16}})


@pytest.fixture(scope="module")
def cluster():
    # Ray counts a GPU where it is told to; nothing here uses it.
    ray.init(
        "local", num_cpus=2, num_gpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR"
    )
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "checkpoint"
    save_checkpoint(folder, build_network(CONFIG.network, seed=0), CONFIG, epoch=1)
    return str(folder)


@pytest.fixture(scope="module")
def specs(tmp_path_factory):
    _, held_out = split(open_photos("samples"), 1, 0)
    folder = build_validation_benchmark(held_out, tmp_path_factory.mktemp("benchmark") / "validation")
    return (BenchmarkSpec("validation", str(folder), "validation"),)


@pytest.fixture(scope="module")
def pool(cluster, specs):
    return start_pool(specs, EvaluatorResources(number=2))


@pytest.fixture(scope="module")
def undisturbed(pool, checkpoint):
    return ray.get(pool.score.remote(checkpoint, "validation"))


def pairs(verdict):
    return Evaluation.from_json(verdict.table).pairs


def evaluators(title: str = "ray::Evaluator") -> list[int]:
    """Process numbers of this test's own evaluators; by a longer title, of those that do that."""
    return [pid for pid in naming(title) if "EvaluatorPool" not in title_of(pid) and ours(pid)]


def ours(process: int) -> bool:
    """Whether the process descends from this one."""
    while process > 1 and process != os.getpid():
        process = parent_of(process)
    return process == os.getpid()


def who_scores(timeout_s: float = 60) -> int:
    """Process number of the one evaluator that scores, once there is one."""
    deadline = time.monotonic() + timeout_s
    while not (found := evaluators("ray::Evaluator.score")):
        assert time.monotonic() < deadline, "no evaluator scores"
        time.sleep(0.05)
    return found[0]


def test_a_checkpoint_is_scored_with_examples(undisturbed):
    assert len(pairs(undisturbed)) == 10
    assert len(unpack_examples(undisturbed.examples, "here")) == 2
    assert undisturbed.scalars["mma_3px"] > 0


def test_the_same_images_are_seen_each_time(pool, checkpoint, undisturbed):
    again = ray.get(pool.score.remote(checkpoint, "validation"))
    before, after = (unpack_maps(verdict.maps, "here") for verdict in (undisturbed, again))
    assert len({maps.name for maps in before}) == 2
    for first, second in zip(before, after, strict=True):
        assert first.name == second.name
        np.testing.assert_array_equal(first.image, second.image)
        np.testing.assert_array_equal(first.repeatability, second.repeatability)


def test_several_checkpoints_are_scored_at_a_time_and_alike(pool, checkpoint, undisturbed):
    scores = ray.get([pool.score.remote(checkpoint, "validation") for _ in range(3)])
    assert all(pairs(score) == pairs(undisturbed) for score in scores)


def test_evaluators_that_are_killed_while_scoring_lose_nothing(pool, checkpoint, undisturbed):
    alive = evaluators()
    assert len(alive) == 2
    asked = [pool.score.remote(checkpoint, "validation") for _ in range(3)]
    time.sleep(1)
    # All of them: no idle one can step in.
    for process in alive:
        os.kill(process, signal.SIGKILL)
    assert all(pairs(score) == pairs(undisturbed) for score in ray.get(asked))


@pytest.mark.slow
def test_a_checkpoint_that_costs_the_lives_of_three_evaluators_is_named(pool, checkpoint):
    asked = pool.score.remote(checkpoint, "validation")
    for _ in range(ATTEMPTS):
        evaluator = who_scores()
        os.kill(evaluator, signal.SIGKILL)
        while title_of(evaluator):
            time.sleep(0.01)
    with pytest.raises(
        ray.exceptions.RayTaskError, match=f"3 evaluation actors died while scoring {checkpoint} on"
    ):
        ray.get(asked, timeout=60)


@pytest.mark.slow
def test_an_evaluator_that_cannot_be_started_says_why_and_is_replaced(
    cluster, specs, checkpoint, undisturbed
):
    async def story():
        pool = EvaluatorPool((None,), EvaluatorResources())
        with pytest.raises(
            RuntimeError, match=r"3 evaluation actors died while scoring .*\n(.*\n)*.*no attribute 'role'"
        ):
            await pool.score(checkpoint, "validation")
        pool._benchmarks = specs
        return await pool.score(checkpoint, "validation")

    assert pairs(asyncio.run(story())) == pairs(undisturbed)


def test_a_full_disk_is_told_apart_from_other_errors(cluster, monkeypatch):
    evaluator = object.__new__(Evaluator)
    evaluator._device = torch.device("cpu")
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/tmp/model")
    errors = iter([full, OSError(errno.EIO, "broken")])

    def fail(*_):
        raise next(errors)

    monkeypatch.setattr(evaluator, "_score", fail)
    with pytest.raises(
        DiskFull, match=rf"the node {ray.util.get_node_ip_address()} is full \(/tmp/model: No space"
    ):
        evaluator.score("model", "validation")
    with pytest.raises(OSError, match="broken"):
        evaluator.score("model", "validation")


@pytest.mark.parametrize(("num_gpus", "device"), [(0, "cpu"), (0.2, "cuda"), (1, "cuda")])
def test_an_evaluator_computes_on_what_ray_reserved_for_it(cluster, num_gpus, device):
    asked = ray.remote(reserved_device).options(num_cpus=0, num_gpus=num_gpus).remote()
    assert ray.get(asked, timeout=60) == device


@pytest.mark.parametrize(("told", "seen"), [({"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1"}, ""), ({}, None)])
def test_ray_hides_gpus_from_who_reserved_none_only_if_it_is_told_to(cluster, told, seen):
    asked = ray.remote(lambda: os.environ.get("CUDA_VISIBLE_DEVICES"))
    asked = asked.options(num_cpus=0, runtime_env={"env_vars": told | {"ANOTHER_PROCESS": "1"}})
    assert ray.get(asked.remote(), timeout=60) == seen


def test_a_part_of_a_gpu_bounds_the_memory_of_an_evaluator(monkeypatch):
    bounds = []
    monkeypatch.setattr("evaluation.actor.reserved_device", lambda: "cuda")
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", lambda *args: bounds.append(args))
    Evaluator((), threads=torch.get_num_threads(), gpus=0.2)
    assert bounds == [(0.2, torch.device("cuda"))]


def test_an_evaluator_gives_back_what_it_kept_of_a_gpu_and_says_that_it_is_broken(monkeypatch):
    given, gpu, broken = [], torch.device("cuda"), torch.AcceleratorError("CUDA error: an illegal access")

    def fail(*_):
        raise broken

    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: given.append(True))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda _: None)
    with _gpu_shared(gpu):
        assert not given
    assert len(given) == 1
    with pytest.raises(RuntimeError, match="shapes"), _gpu_shared(gpu):
        raise RuntimeError("shapes do not fit")
    assert len(given) == 2
    monkeypatch.setattr(torch.cuda, "synchronize", fail)
    with (
        pytest.raises(BrokenGPU, match="does not answer this process any more: CUDA error"),
        _gpu_shared(gpu),
    ):
        fail()
    with pytest.raises(ValueError, match="no model"), _gpu_shared(gpu):
        raise ValueError("there is no model")
    monkeypatch.setattr(torch.cuda, "empty_cache", fail)
    with pytest.raises(BrokenGPU), _gpu_shared(gpu):
        fail()
    with _gpu_shared(torch.device("cpu")):
        pass


@pytest.mark.parametrize("times", [1, 2, ATTEMPTS])
def test_an_evaluator_whose_gpu_broke_is_replaced_and_the_checkpoint_scored_again(
    cluster, monkeypatch, tmp_path, times
):
    class Fragile:
        """Breaks so many times, each in a process that then fails for good."""

        def __init__(self, *_):
            self.broken = False

        def is_alive(self):
            return True

        def score(self, source, role):
            import os
            import pathlib

            from evaluation.actor import BrokenGPU

            assert not self.broken, "asked again in a broken process"
            folder = pathlib.Path(source)
            if len(list(folder.iterdir())) < times:
                (folder / str(os.getpid())).touch()
                self.broken = True
                raise BrokenGPU("the GPU does not answer")
            return "scored"

    monkeypatch.setattr("evaluation.actor.Evaluator", Fragile)

    async def story():
        pool = EvaluatorPool((), EvaluatorResources())
        if times < ATTEMPTS:
            return await pool.score(str(tmp_path), "validation")
        with pytest.raises(
            RuntimeError, match=r"3 evaluation actors died while scoring .*: the GPU does not"
        ):
            await pool.score(str(tmp_path), "validation")
        # The next checkpoint has an evaluator.
        return await pool.score(str(tmp_path), "validation")

    assert asyncio.run(story()) == "scored"
    assert len(list(tmp_path.iterdir())) == times


def test_a_checkpoint_that_cannot_be_read_is_named(pool, tmp_path):
    with pytest.raises(ray.exceptions.RayTaskError, match="there is no model"):
        ray.get(pool.score.remote(str(tmp_path / "nothing"), "validation"))


def test_no_evaluators_are_refused():
    with pytest.raises(ValueError, match="the number of evaluation actors is 0; it must be at least 1"):
        EvaluatorResources(number=0)
    with pytest.raises(ValueError, match="cannot ask for less than 0"):
        EvaluatorResources(num_gpus=-1)


@pytest.mark.parametrize(("num_cpus", "threads"), [(0, 1), (0.5, 1), (1, 1), (2, 2), (2.5, 2)])
def test_an_evaluator_has_a_thread_per_processor(num_cpus, threads):
    assert EvaluatorResources(num_cpus=num_cpus).threads == threads
