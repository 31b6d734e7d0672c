"""A sweep handed to a cluster of several nodes, as a user would."""

from __future__ import annotations

import json
import os
import re
import subprocess

import pytest
from ray_nodes import RAY, ROOT

pytestmark = [pytest.mark.multinode, pytest.mark.timeout(900)]

SMALL = ("--set", "data.pairs_per_epoch=8")


def rays_own_submission(cluster, variables):
    """Ray's command, without ours: from the folder of this checkout, with the variables of the job."""
    environment = {"excludes": [".venv", ".git", "tests"], "env_vars": variables}
    where = ("--address", cluster.address, "--working-dir", str(ROOT))
    entry_point = ("python", "-m", "runner", "sweep", "smoke", *SMALL)
    return subprocess.run(
        [RAY, "job", "submit", *where, "--runtime-env-json", json.dumps(environment), "--", *entry_point],
        env={**cluster.environment, "PYTHONPATH": os.devnull},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


def of_trials(s3):
    """ETags of everything in the trials, but for what says how far they are."""
    etags = s3.etags("home/sweeps/smoke/trials/")
    return {name: etag for name, etag in etags.items() if not name.endswith("progress.json")}


def test_it_trains_on_nodes_that_share_no_folder_and_whoever_submits_it_again_trains_nothing(
    cluster, s3, tmp_path
):
    """The nodes know the keys of S3, but not the place."""
    variables = s3.variables(tmp_path)
    options = [word for item in variables.items() for word in ("--env", "=".join(item))]
    where = ("--address", cluster.address)
    submit = ("submit", "smoke", *SMALL, *where, "--home", s3.place("home"), *options)
    done = cluster.r2d2(*submit)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "r2d2-smoke-1: submitted" in done.stdout
    assert "untrained network" in done.stdout
    assert "r2d2-smoke-1: succeeded" in done.stdout
    before = of_trials(s3)
    assert sum(name.endswith("checkpoint_002/config.json") for name in before) == 2
    scores = [name for name in before if name.endswith("epoch_002.validation.json")]
    assert len(scores) == 2
    for name in scores:
        score = json.loads(s3.client.get_object(Bucket=s3.bucket, Key=name)["Body"].read())
        assert 0 <= score["metrics"]["validation/mma_3px"] <= 1
    # Nothing of a trial is on a disk of the cluster.
    assert not [path for path in tmp_path.rglob("*") if "checkpoint_" in path.name or path.name == "history"]

    again = cluster.r2d2(*submit)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "r2d2-smoke-2: succeeded" in again.stdout
    assert "started" not in again.stdout
    assert of_trials(s3) == before
    assert cluster.r2d2("submit", "smoke", "--status", *where).stdout.count("succeeded") == 2

    own = rays_own_submission(cluster, {"R2D2_HOME": s3.place("home"), **variables})
    assert own.returncode == 0, own.stdout + own.stderr
    assert "untrained network" in own.stdout
    assert of_trials(s3) == before


def test_a_wrong_token_is_refused_with_a_sentence(cluster):
    refused = cluster.r2d2("submit", "--status", "--address", cluster.address, RAY_AUTH_TOKEN="0" * 64)
    assert refused.returncode == 2
    assert f"error: the cluster at {cluster.address} refuses the token" in refused.stderr


def test_twice_at_once_runs_it_once_and_it_can_be_stopped(cluster, tmp_path):
    where = ("--address", cluster.address)
    first = cluster.r2d2("submit", "smoke", "--name", "twice", "--home", str(tmp_path), "--detach", *where)
    second = cluster.r2d2("submit", "smoke", "--name", "twice", "--home", str(tmp_path), "--detach", *where)
    assert "r2d2-twice-1: submitted" in first.stdout
    assert "r2d2-twice-1: is" in second.stdout
    stopped = cluster.r2d2("submit", "twice", "--stop", *where)
    assert re.search("r2d2-twice-1 (has stopped|is asked to stop)", stopped.stdout), stopped.stdout
    followed = cluster.r2d2("submit", "twice", "--status", *where)
    assert "r2d2-twice-2" not in followed.stdout
