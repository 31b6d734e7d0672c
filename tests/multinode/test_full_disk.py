"""The disk of one node has no room for a checkpoint: its trial goes on on another node."""

from __future__ import annotations

import pytest
from small_disk import small_disk

pytestmark = [pytest.mark.multinode, pytest.mark.timeout(900)]

# Two trials whose checkpoints are larger than the small disk.
LARGE = """
from search_spaces.sweep import Sweep

TRIAL = {
    "network": {"channels": 2, "dim": 32},
    "data": {"crop_size": 64, "held_out": 1, "pairs_per_epoch": 8, "max_shorter_side": 320},
    "pairs_per_worker": 4,
    "epochs": 1,
}
sweep = Sweep(samples=True, space=[TRIAL, {**TRIAL, "loss": {"similarity": "dice"}}], baselines=False)
"""


@pytest.fixture
def node_with_a_small_disk(cluster, tmp_path):
    """One of two worker nodes has no room for a checkpoint."""
    with small_disk(tmp_path / "disk", "1m") as disk:
        cluster.ensure_nodes(1)
        # Ray's own files lie where they always do.
        number = cluster.add_node(TMPDIR=str(disk), RAY_TMPDIR="/tmp")
        yield
        cluster.kill_node(number)


@pytest.mark.usefixtures("node_with_a_small_disk")
def test_a_trial_that_meets_a_full_disk_goes_on_on_another_node(cluster, s3, tmp_path):
    file = tmp_path / "large.py"
    file.write_text(LARGE)
    variables = [word for item in s3.variables(tmp_path).items() for word in ("--env", "=".join(item))]
    where = ("--address", cluster.address, "--home", s3.place("home"))
    done = cluster.r2d2("submit", str(file), "--name", "large", *where, *variables)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "is full: [Errno 28]" in done.stdout
    assert "goes on on another node" in done.stdout
    names = list(s3.etags("home/sweeps/large/trials/"))
    assert sum(name.endswith(".disk.json") for name in names) == 1
    assert sum(name.endswith("checkpoint_001/config.json") for name in names) == 2
    assert sum(name.endswith("epoch_001.validation.json") for name in names) == 2
