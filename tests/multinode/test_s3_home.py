"""A sweep handed to a cluster whose nodes share no folder: its home is on S3."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.multinode, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]


# Two trials whose checkpoints are larger than the small disk.
LARGE = """
from search_spaces.sweep import Sweep

TRIAL = {
    "network": {"channels": 4, "dim": 16},
    "data": {"crop_size": 64, "held_out": 2, "pairs_per_epoch": 8, "max_shorter_side": 320},
    "pairs_per_worker": 4,
    "epochs": 1,
}
sweep = Sweep(space=[TRIAL, {**TRIAL, "loss": {"similarity": "dice"}}], baselines=False)
"""


def submit(cluster, s3, folder, sweep="smoke", name="remote"):
    """Submits a small sweep as a user would, whose nodes know the keys but not the place."""
    options = [
        *("--name", name, "--address", cluster.address, "--home", s3.place("home")),
        *("--set", "data.pairs_per_epoch=8"),
        *("--env", f"AWS_ENDPOINT_URL={s3.endpoint}", "--env", f"R2D2_CACHE={folder / 'cache'}"),
        *("--env", f"MLFLOW_TRACKING_URI=sqlite:///{folder / 'mlflow.db'}"),
    ]
    return subprocess.run(
        [sys.executable, "-m", "runner", "submit", sweep, *options],
        env={**cluster.environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=420,
        check=False,
    )


def kept(s3, name="remote") -> dict[str, str]:
    """ETags of everything in the trials, but for what says how far they are."""
    pages = s3.client.get_paginator("list_objects_v2").paginate(
        Bucket=s3.bucket, Prefix=f"home/sweeps/{name}/trials/"
    )
    objects = [entry for page in pages for entry in page.get("Contents", ())]
    return {entry["Key"]: entry["ETag"] for entry in objects if not entry["Key"].endswith("progress.json")}


def test_it_trains_on_the_nodes_and_resubmitted_it_trains_nothing(cluster, s3, tmp_path):
    done = submit(cluster, s3, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "r2d2-remote-1: succeeded" in done.stdout
    assert "untrained network" in done.stdout
    before = kept(s3)
    last = [name for name in before if name.endswith("checkpoint_002/config.json")]
    assert len(last) == 2
    assert sum(name.endswith("epoch_002.validation.json") for name in before) == 2
    # Nothing of a trial is on a disk of the cluster.
    assert not [path for path in tmp_path.rglob("*") if "checkpoint_" in path.name or path.name == "history"]
    again = submit(cluster, s3, tmp_path)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "r2d2-remote-2: succeeded" in again.stdout
    assert kept(s3) == before


@pytest.fixture
def node_with_a_small_disk(cluster, tmp_path):
    """One of two worker nodes has no room for a checkpoint."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)], check=False).returncode:
        pytest.skip("needs root, to mount a small disk")
    try:
        cluster.ensure_nodes(1)
        # Ray's own files lie where they always do.
        number = cluster.add_node(TMPDIR=str(disk), RAY_TMPDIR="/tmp")
        yield
        cluster.kill_node(number)
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.mark.usefixtures("node_with_a_small_disk")
def test_a_trial_that_meets_a_full_disk_goes_on_on_another_node(cluster, s3, tmp_path):
    file = tmp_path / "large.py"
    file.write_text(LARGE)
    done = submit(cluster, s3, tmp_path, str(file), "large")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "is full: [Errno 28]" in done.stdout
    assert "goes on on another node" in done.stdout
    names = list(kept(s3, "large"))
    assert sum(name.endswith(".disk.json") for name in names) == 1
    assert sum(name.endswith("checkpoint_001/config.json") for name in names) == 2
    assert sum(name.endswith("epoch_001.validation.json") for name in names) == 2
