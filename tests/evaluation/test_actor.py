"""The pool of judges: a judge that dies loses nothing, and one that cannot score says why."""

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
    Judge,
    JudgePool,
    JudgeResources,
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
    return start_pool(specs, JudgeResources(number=2))


@pytest.fixture(scope="module")
def undisturbed(pool, checkpoint):
    return ray.get(pool.score.remote(checkpoint, "validation"))


def pairs(verdict):
    return Evaluation.from_json(verdict.table).pairs


def judges(title: str = "ray::Judge") -> list[int]:
    """Process numbers of this test's own judges; by a longer title, of those that do that."""
    return [pid for pid in naming(title) if "JudgePool" not in title_of(pid) and ours(pid)]


def ours(process: int) -> bool:
    """Whether the process descends from this one."""
    while process > 1 and process != os.getpid():
        process = parent_of(process)
    return process == os.getpid()


def who_scores(timeout_s: float = 60) -> int:
    """Process number of the one judge that scores, once there is one."""
    deadline = time.monotonic() + timeout_s
    while not (found := judges("ray::Judge.score")):
        assert time.monotonic() < deadline, "no judge scores"
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


def test_judges_that_are_killed_while_scoring_lose_nothing(pool, checkpoint, undisturbed):
    alive = judges()
    assert len(alive) == 2
    asked = [pool.score.remote(checkpoint, "validation") for _ in range(3)]
    time.sleep(1)
    # All of them: no idle one can step in.
    for process in alive:
        os.kill(process, signal.SIGKILL)
    assert all(pairs(score) == pairs(undisturbed) for score in ray.get(asked))


def test_a_checkpoint_that_costs_the_lives_of_three_judges_is_named(pool, checkpoint):
    asked = pool.score.remote(checkpoint, "validation")
    for _ in range(ATTEMPTS):
        judge = who_scores()
        os.kill(judge, signal.SIGKILL)
        while title_of(judge):
            time.sleep(0.01)
    with pytest.raises(
        ray.exceptions.RayTaskError, match=f"3 evaluation actors died while scoring {checkpoint} on"
    ):
        ray.get(asked, timeout=60)


def test_a_judge_that_cannot_be_started_says_why_and_is_replaced(cluster, specs, checkpoint, undisturbed):
    async def story():
        pool = JudgePool((None,), JudgeResources())
        with pytest.raises(
            RuntimeError, match=r"3 evaluation actors died while scoring .*\n(.*\n)*.*no attribute 'role'"
        ):
            await pool.score(checkpoint, "validation")
        pool._benchmarks = specs
        return await pool.score(checkpoint, "validation")

    assert pairs(asyncio.run(story())) == pairs(undisturbed)


def test_a_full_disk_is_told_apart_from_other_errors(cluster, monkeypatch):
    judge = object.__new__(Judge)
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/tmp/model")
    errors = iter([full, OSError(errno.EIO, "broken")])

    def fail(*_):
        raise next(errors)

    monkeypatch.setattr(judge, "_score", fail)
    with pytest.raises(
        DiskFull, match=rf"the node {ray.util.get_node_ip_address()} is full \(/tmp/model: No space"
    ):
        judge.score("model", "validation")
    with pytest.raises(OSError, match="broken"):
        judge.score("model", "validation")


def test_a_checkpoint_that_cannot_be_read_is_named(pool, tmp_path):
    with pytest.raises(ray.exceptions.RayTaskError, match="there is no model"):
        ray.get(pool.score.remote(str(tmp_path / "nothing"), "validation"))


def test_no_judges_are_refused():
    with pytest.raises(ValueError, match="the number of evaluation actors is 0; it must be at least 1"):
        JudgeResources(number=0)
    with pytest.raises(ValueError, match="cannot ask for less than 0"):
        JudgeResources(num_gpus=-1)


@pytest.mark.parametrize(("num_cpus", "threads"), [(0, 1), (0.5, 1), (1, 1), (2, 2), (2.5, 2)])
def test_a_judge_has_a_thread_per_processor(num_cpus, threads):
    assert JudgeResources(num_cpus=num_cpus).threads == threads
