"""A driver that was silent for too long loses its sweep; awake again it notices and writes nothing."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from runner.record.attempt import read_claim
from runner.record.history import TRAIN
from runner.record.incidents import ASKED_TO_STOP, incidents
from runner.record.sweep import StoredSweep
from runner.settings import Settings
from runner.tracking.experiments import Tracker

pytestmark = [pytest.mark.cluster, pytest.mark.multinode, pytest.mark.timeout(900)]

ROOT = Path(__file__).parent.parent.parent
SWEEP = '''"""Does it work?"""
from ray import tune
from search_spaces.sweep import Sweep
sweep = Sweep(
    samples=True,
    space={
        "network": {"channels": 1, "dim": 16},
        "data": {"crop_size": 64, "held_out": 2, "pairs_per_epoch": 48, "max_shorter_side": 320},
        "optimiser": {"learning_rate": tune.grid_search([3e-3, 1e-3])},
        "pairs_per_worker": 4,
        "epochs": 3,
    },
    starting_networks=False,
)
'''


@pytest.fixture
def home(tmp_path):
    (tmp_path / "tiny.py").write_text(SWEEP)
    return tmp_path / "home"


@pytest.fixture
def start(home):
    """Starts a command in that home; whatever still runs at the end is killed."""
    started = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        environment = {**os.environ, "R2D2_HOME": str(home), "R2D2_LEASE_S": "6"}
        command = [sys.executable, "-m", "runner", *arguments]
        pipe = subprocess.PIPE
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=pipe, stderr=pipe, text=True)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def sweep(start, home):
    """Starts the sweep."""
    return lambda: start("sweep", str(home.parent / "tiny.py"), "--concurrent", "1")


def wait_for_the_first_epoch(home: Path, driver: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 300
    while not list(home.glob("sweeps/tiny/trials/*/history/epoch_001.train.json")):
        assert driver.poll() is None, driver.communicate()
        assert time.monotonic() < deadline, "no epoch was trained in time"
        time.sleep(0.05)


def files(home: Path) -> dict[Path, int]:
    """What was written into the sweep, and when; the Tune runs keep their own diaries."""
    folder = home / "sweeps" / "tiny"
    return {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file() and "tune" not in p.parts}


def test_a_stopped_driver_is_followed_and_awake_again_writes_nothing(home, sweep):
    first = sweep()
    wait_for_the_first_epoch(home, first)
    first.send_signal(signal.SIGSTOP)
    second = sweep()
    output, errors = second.communicate(timeout=500)
    assert second.returncode == 0, output + errors
    stored = StoredSweep(home / "sweeps" / "tiny")
    assert read_claim(stored.folder).number == 2
    written = files(home)

    first.send_signal(signal.SIGCONT)
    _, errors = first.communicate(timeout=100)
    assert first.returncode == 2
    assert errors.strip().splitlines()[-1] == (
        f"error: attempt 1 at the sweep in {stored.folder} was taken over by attempt 2; "
        "this one stops writing"
    )
    assert files(home) == written

    for trial in stored.trials():
        records = stored.history(trial).records()
        assert [(r.epoch, r.kind) for r in records] == [
            (epoch, kind) for epoch in (1, 2, 3) for kind in (TRAIN, "validation")
        ]
    assert {r.attempt for t in stored.trials() for r in stored.history(t).records()} == {1, 2}
    settings = Settings.from_environment({"R2D2_HOME": str(home)})
    tracker = Tracker.of(settings)
    runs = tracker.list_runs("tiny")
    assert sorted((r.role, r.status) for r in runs) == [
        ("summary", "FINISHED"),
        ("trial", "FINISHED"),
        ("trial", "FINISHED"),
    ]
    for run in runs:
        if run.role == "trial":
            for metric in ("train/loss_total", "validation/mma_3px"):
                steps = [m.step for m in tracker.client.get_metric_history(run.run_id, metric)]
                assert sorted(steps) == [1, 2, 3]


def test_a_sweep_is_stopped_from_another_terminal_and_resumed_by_its_name(home, sweep, start):
    first = sweep()
    wait_for_the_first_epoch(home, first)
    asked = time.monotonic()
    said, _ = start("stop", "tiny").communicate(timeout=200)
    assert "The sweep 'tiny' is stopped; r2d2 resume tiny continues it." in said
    output, errors = first.communicate(timeout=100)
    assert first.returncode == 130, output + errors
    assert time.monotonic() - asked < 60
    assert "Interrupted. The same command continues" in output
    assert "stopped by r2d2 stop; r2d2 resume continues it" in output
    assert not re.search("failed|killed", output)
    stored = StoredSweep(home / "sweeps" / "tiny")
    assert all(stored.history(trial).failure is None for trial in stored.trials())
    stops = [
        i for trial in stored.trials() for i in incidents(stored.history(trial)) if i.kind == ASKED_TO_STOP
    ]
    assert any("is kept up to step" in stop.text for stop in stops)
    (home.parent / "tiny.py").unlink()
    settings = Settings.from_environment({"R2D2_HOME": str(home)})
    tracker = Tracker.of(settings)
    reasons = {(run.status, run.tags.get("r2d2.reason")) for run in tracker.list_runs("tiny")}
    assert ("KILLED", "stopped by r2d2 stop; r2d2 resume continues it") in reasons

    resumed = start("resume", "tiny")
    output, errors = resumed.communicate(timeout=500)
    assert resumed.returncode == 0, output + errors
    assert not re.search("failed|killed|asked to stop", output)
    assert len(stored.trials()) == 2
    for trial in stored.trials():
        assert [r.epoch for r in stored.history(trial).records() if r.kind == TRAIN] == [1, 2, 3]
    assert {run.status for run in tracker.list_runs("tiny")} == {"FINISHED"}
    refused = start("stop", "tiny")
    _, errors = refused.communicate(timeout=100)
    assert "error: no driver runs the sweep 'tiny'; r2d2 resume tiny starts one" in errors
