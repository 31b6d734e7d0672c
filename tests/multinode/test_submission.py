"""A sweep handed to a cluster of several nodes, as a user would."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.multinode

ROOT = Path(__file__).parents[2]
SMALL = ("--set", "data.pairs_per_epoch=8")


def r2d2(cluster, *arguments, **changes):
    """Runs the command line with the code of this checkout, which the cluster's nodes do not have."""
    environment = {**cluster.environment, "PYTHONPATH": str(ROOT), **changes}
    command = [sys.executable, "-m", "runner", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280, check=False)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def submitted(cluster, home):
    return r2d2(cluster, "submit", "smoke", *SMALL, "--address", cluster.address, "--home", str(home))


def test_the_sweep_runs_on_the_worker_nodes_and_its_table_is_seen(submitted, home):
    assert submitted.returncode == 0, submitted.stdout + submitted.stderr
    assert "r2d2-smoke-1: submitted" in submitted.stdout
    assert "untrained network" in submitted.stdout
    assert "r2d2-smoke-1: succeeded" in submitted.stdout
    trials = [
        folder for folder in (home / "sweeps" / "smoke" / "trials").iterdir() if "start" not in folder.name
    ]
    assert len(trials) == 2
    for trial in trials:
        assert (trial / "train" / "checkpoint_002").is_dir()
        scored = json.loads((trial / "history" / "epoch_002.validation.json").read_text())
        assert 0 <= scored["metrics"]["validation/mma_3px"] <= 1


def test_submitted_again_it_is_resumed_and_trains_nothing(submitted, cluster, home):
    checkpoints = {p: p.stat().st_mtime_ns for p in home.rglob("model.safetensors")}
    again = r2d2(cluster, "submit", "smoke", *SMALL, "--address", cluster.address, "--home", str(home))
    assert again.returncode == 0, again.stdout + again.stderr
    assert "r2d2-smoke-2: succeeded" in again.stdout
    assert "started" not in again.stdout
    assert {p: p.stat().st_mtime_ns for p in home.rglob("model.safetensors")} == checkpoints
    listed = r2d2(cluster, "submit", "smoke", "--status", "--address", cluster.address)
    assert listed.stdout.count("succeeded") == 2


def test_a_wrong_token_is_refused_with_a_sentence(cluster):
    refused = r2d2(cluster, "submit", "--status", "--address", cluster.address, RAY_AUTH_TOKEN="0" * 64)
    assert refused.returncode == 2
    assert refused.stderr.startswith(f"error: {cluster.address} refuses the token")


def test_twice_at_once_runs_it_once_and_it_can_be_stopped(cluster, tmp_path):
    where = ("--address", cluster.address)
    first = r2d2(cluster, "submit", "smoke", "--name", "twice", "--home", str(tmp_path), "--detach", *where)
    second = r2d2(cluster, "submit", "smoke", "--name", "twice", "--home", str(tmp_path), "--detach", *where)
    assert "r2d2-twice-1: submitted" in first.stdout
    assert "r2d2-twice-1: is" in second.stdout
    stopped = r2d2(cluster, "submit", "twice", "--stop", *where)
    assert re.search("r2d2-twice-1 (has stopped|is told to stop)", stopped.stdout), stopped.stdout
    followed = r2d2(cluster, "submit", "twice", "--status", *where)
    assert "r2d2-twice-2" not in followed.stdout


def test_rays_own_submission_runs_the_same_entry_point(cluster, home, submitted):
    done = subprocess.run(
        [
            str(Path(sys.executable).with_name("ray")),
            *("job", "submit", "--address", cluster.address, "--working-dir", str(ROOT)),
            *(
                "--runtime-env-json",
                json.dumps({"excludes": [".venv", ".git", "tests"], "env_vars": {"R2D2_HOME": str(home)}}),
            ),
            *("--", "python", "-m", "runner", "sweep", "smoke", *SMALL),
        ],
        env={**cluster.environment, "PYTHONPATH": os.devnull},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "untrained network" in done.stdout
