"""The pool of evaluators: an evaluator that dies loses nothing, and one that cannot score says why."""

import asyncio
import errno
import os
import signal
import time

import numpy as np
import pytest
import ray
from processes import naming, parent_of, title_of

from evaluation.actor import (
    ATTEMPTS,
    BenchmarkSpec,
    Evaluator,
    EvaluatorPool,
    EvaluatorResources,
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
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
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
