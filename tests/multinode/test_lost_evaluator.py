"""The node of the only evaluator is lost while it scores, or has no room for what it scores."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import ray
from processes import naming
from ray.cluster_utils import Cluster
from small_disk import enlarge, small_disk

from evaluation.actor import BenchmarkSpec, EvaluatorResources, start_pool
from evaluation.benchmarks.validation import build_validation_benchmark
from evaluation.evaluation import Evaluation
from r2d2.checkpoint import save_checkpoint
from r2d2.config import TrainConfig
from r2d2.data.photos import open_photos, split
from r2d2.network import build_network
from r2d2.storage.errors import DiskFull
from runner.cluster.connect import on_this_node

pytestmark = [pytest.mark.multinode, pytest.mark.timeout(600)]

# Ray misses the node within this time, and until then cannot reach the evaluator.
UNTIL_MISSED_S = 20
TIMEOUT_S = 120


@pytest.fixture
def cluster():
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    ray.init(nodes.address, log_to_driver=False, logging_level="ERROR")
    yield nodes
    ray.shutdown()
    nodes.shutdown()


@pytest.fixture
def checkpoint(tmp_path):
    config = TrainConfig()
    save_checkpoint(tmp_path / "checkpoint", build_network(config.network, seed=0), config, epoch=1)
    return str(tmp_path / "checkpoint")


@pytest.fixture
def benchmark(tmp_path):
    _, held_out = split(open_photos("samples"), 1, 0)
    return str(build_validation_benchmark(held_out, tmp_path / "validation"))


def test_its_checkpoint_is_scored_when_there_is_room_again(cluster, benchmark, checkpoint):
    node = cluster.add_node(num_cpus=1)
    assert not naming("ray::Evaluator.score"), "another sweep runs on this machine"
    specs = (BenchmarkSpec("validation", benchmark, "validation"),)
    pool = start_pool(specs, EvaluatorResources(num_cpus=1), on_this_node())
    asked = pool.score.remote(checkpoint, "validation")
    deadline = time.monotonic() + TIMEOUT_S
    while not naming("ray::Evaluator.score"):
        assert time.monotonic() < deadline, "no evaluator scores"
        time.sleep(0.1)
    cluster.remove_node(node, allow_graceful=False)
    assert ray.wait([asked], timeout=UNTIL_MISSED_S) == ([], [asked])
    cluster.add_node(num_cpus=1)
    assert len(Evaluation.from_json(ray.get(asked, timeout=TIMEOUT_S).table).pairs) == 10


def test_on_a_full_disk_it_says_so_and_scores_when_there_is_room(
    cluster, benchmark, checkpoint, s3, tmp_path
):
    s3.put_folder(Path(checkpoint), "checkpoint")
    with small_disk(tmp_path / "disk", "64k") as disk:
        # Ray's own files lie where they always do.
        cluster.add_node(num_cpus=1, env_vars={"TMPDIR": str(disk), "RAY_TMPDIR": "/tmp"})
        specs = (BenchmarkSpec("validation", benchmark, "validation"),)
        pool = start_pool(specs, EvaluatorResources(num_cpus=1), on_this_node())
        sentence = rf"a disk of the node [\d.]+ is full \({disk}: No space left on device\); make room"
        with pytest.raises(DiskFull, match=sentence):
            ray.get(pool.score.remote(s3.place("checkpoint"), "validation"), timeout=TIMEOUT_S)
        enlarge(disk, "64m")
        scored = ray.get(pool.score.remote(s3.place("checkpoint"), "validation"), timeout=TIMEOUT_S)
    assert len(Evaluation.from_json(scored.table).pairs) == 10
