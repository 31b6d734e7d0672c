"""Nodes come when trials wait for them, and leave when nothing is left to do.

By Ray's own autoscaler, whose nodes are processes on this machine instead of instances of a cloud.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ports import free_port
from processes import naming, title_of
from ray_nodes import Cluster, node_folder, own_environment, start_node

pytestmark = [pytest.mark.multinode, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]
MOST = 2
HEAD, WORKER = "ray.head.default", "worker"
# Nodes need no commands, as nobody logs in to them.
EMPTY = (
    *("initialization_commands", "setup_commands", "head_setup_commands", "worker_setup_commands"),
    *("head_start_ray_commands", "worker_start_ray_commands"),
    *("cluster_synced_files", "rsync_exclude", "rsync_filter"),
)


def configuration(gcs: str) -> dict:
    """What a launcher file says, for nodes that are processes."""
    return {
        "cluster_name": "fake",
        "max_workers": MOST,
        "provider": {
            # Named as a module of somebody else's, as Ray's wheel lacks a file that its own name needs.
            "type": "external",
            "module": "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider",
            "gcs_address": gcs,
            "use_node_id_as_ip": True,
            "disable_node_updaters": True,
            "disable_launch_config_check": True,
        },
        "available_node_types": {
            HEAD: {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
            WORKER: {"resources": {"CPU": 1}, "node_config": {}, "min_workers": 0, "max_workers": MOST},
        },
        "head_node_type": HEAD,
        "upscaling_speed": 4.0,
        "idle_timeout_minutes": 0.1,
        "auth": {},
        "docker": {},
        "file_mounts": {},
        **{key: [] for key in EMPTY},
    }


@pytest.fixture
def growing():
    """A cluster of a head without processors that may add two nodes of one each."""
    port = free_port()
    with node_folder() as folder:
        environment = own_environment(
            RAY_FAKE_CLUSTER="1",
            RAY_TMPDIR=str(folder),
            # The newer autoscaler does not know nodes that are processes.
            RAY_enable_autoscaler_v2="0",
            AUTOSCALER_UPDATE_INTERVAL_S="1",
        )
        cluster = Cluster("", f"127.0.0.1:{port}", environment, folder)
        file = folder / "autoscaling.json"
        file.write_text(json.dumps(configuration(cluster.gcs)))
        start_node(
            cluster,
            *("--head", f"--port={port}", "--num-cpus=0", f"--autoscaling-config={file}"),
            *(f"--dashboard-port={free_port()}", f"--ray-client-server-port={free_port()}"),
        )
        yield cluster


def nodes(cluster: Cluster) -> int:
    """How many nodes there are beside the head."""
    raylets = [pid for pid in naming("raylet/raylet ") if f"{cluster.logs}/" in title_of(pid)]
    return len(raylets) - 1


def test_nodes_come_for_waiting_trials_and_leave_after_them(growing, tmp_path):
    assert nodes(growing) == 0
    environment = {
        **growing.environment,
        "RAY_ADDRESS": growing.gcs,
        "PYTHONPATH": str(ROOT),
        "R2D2_HOME": str(tmp_path / "home"),
        # What no driver can ask an autoscaler.
        "R2D2_CLUSTER_CPUS": str(MOST),
    }
    most = 0
    with (tmp_path / "output").open("w+") as output:
        command = [sys.executable, "-m", "runner", "sweep", "smoke", "--set", "data.pairs_per_epoch=8"]
        sweep = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
        try:
            while sweep.poll() is None:
                most = max(most, nodes(growing))
                time.sleep(0.5)
        finally:
            sweep.kill()
        output.seek(0)
        assert sweep.returncode == 0, output.read()
    assert most == MOST
    deadline = time.monotonic() + 120
    while nodes(growing) and time.monotonic() < deadline:
        time.sleep(1)
    assert nodes(growing) == 0
