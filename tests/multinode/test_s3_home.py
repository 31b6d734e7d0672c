"""A sweep handed to a cluster whose nodes share no folder: its home is on S3."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.multinode, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]


def submit(cluster, s3, folder):
    """Submits the smallest sweep as a user would, whose nodes know the keys but not the place."""
    options = [
        *("--name", "remote", "--address", cluster.address, "--home", s3.place("home")),
        *("--set", "data.pairs_per_epoch=8"),
        *("--env", f"AWS_ENDPOINT_URL={s3.endpoint}", "--env", f"R2D2_CACHE={folder / 'cache'}"),
        *("--env", f"MLFLOW_TRACKING_URI=sqlite:///{folder / 'mlflow.db'}"),
    ]
    return subprocess.run(
        [sys.executable, "-m", "runner", "submit", "smoke", *options],
        env={**cluster.environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=420,
        check=False,
    )


def kept(s3) -> dict[str, str]:
    """ETags of everything in the trials, but for what says how far they are."""
    pages = s3.client.get_paginator("list_objects_v2").paginate(
        Bucket=s3.bucket, Prefix="home/sweeps/remote/trials/"
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
