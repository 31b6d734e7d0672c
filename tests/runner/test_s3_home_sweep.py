"""A whole sweep whose home is on S3: through a storm, after a kill, with a full disk."""

import errno
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest
from faulty_proxy import Fault
from rich.console import Console
from small_disk import enlarge, small_disk

from r2d2.checkpoint import load_model
from r2d2.storage.location import open_store
from runner.record.history import TRAIN
from runner.registry.promote import best_run, promote
from runner.registry.rule import PromotionRule
from runner.settings import Settings
from runner.sweep.plan import SweepOptions, plan_sweep
from runner.sweep.run import run_sweep
from runner.tracking.experiments import Tracker

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.multinode,
    pytest.mark.timeout(900),
    # Ray leaves sockets and processes for its own exit handlers to close.
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray", "ignore::FutureWarning:ray"),
]

ROOT = Path(__file__).parent.parent.parent
EPOCHS = 3
SWEEP = '''"""Does it work?"""
from ray import tune
from search_spaces.sweep import Sweep

sweep = Sweep(
    samples=True,
    space={
        "network": {"channels": 1, "dim": 16},
        "data": {"crop_size": 64, "held_out": 1, "pairs_per_epoch": 24, "max_shorter_side": 320},
        "optimiser": {"learning_rate": 3e-3},
        "pairs_per_worker": 4,
        "epochs": EPOCHS,
    },
    starting_networks=False,
)
'''.replace("EPOCHS", str(EPOCHS))
SPEED = ("train/pairs_per_second", "worker/")


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("sweep") / "tiny.py"
    path.write_text(SWEEP)
    return path


def variables_of(home, folder: Path) -> dict[str, str]:
    """With MLflow's store and the caches in a folder of the test."""
    return {
        "R2D2_HOME": str(home),
        "R2D2_CACHE": str(folder / "cache"),
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}",
    }


def settings_of(home, folder: Path) -> Settings:
    return Settings.from_environment(variables_of(home, folder))


def run(file: Path, settings: Settings):
    plan = plan_sweep(str(file), settings, SweepOptions())
    return plan, run_sweep(plan, settings, Console(quiet=True))


def story(plan) -> list:
    """Every event, but for how fast it was and where its files are."""
    (trial,) = plan.stored.trials()
    return [
        (r.epoch, r.kind, {k: v for k, v in r.metrics.items() if not k.startswith(SPEED)})
        for r in plan.stored.history(trial).records()
    ]


def figures(result) -> list:
    return [(row.name, row.figures["mma_3px"]) for row in result.report.variants]


@pytest.fixture(scope="module")
def undisturbed(file, tmp_path_factory):
    """The sweep in a folder: its story and its figures."""
    folder = tmp_path_factory.mktemp("undisturbed")
    plan, result = run(file, settings_of(folder / "home", folder))
    return story(plan), figures(result)


class _Storm:
    """Once the last epoch is written down, S3 is busy for a while, then away, while uploads are cut."""

    def __init__(self, proxy, seconds: float) -> None:
        self._proxy, self._seconds, self.passed = proxy, seconds, False
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._proxy.busy = self._proxy.down = False

    def _run(self) -> None:
        while not any(
            method == "PUT" and path.endswith(f"history/epoch_{EPOCHS:03d}.train.json")
            for method, path, _ in list(self._proxy.requests)
        ):
            time.sleep(0.02)
        weights = f"checkpoint_{EPOCHS:03d}/weights.safetensors"
        self._proxy.faults = [Fault(weights, times=3, method="PUT", cut_upload=5000)]
        self._proxy.busy = True
        time.sleep(self._seconds / 2)
        self._proxy.busy, self._proxy.down = False, True
        time.sleep(self._seconds / 2)
        self._proxy.down = False
        self.passed = True


def kill_in_the_middle(file: Path, home: str, folder: Path) -> None:
    """Starts the sweep and kills its driver once the first epoch's checkpoint is complete."""
    environment = {**os.environ, **variables_of(home, folder)}
    command = [sys.executable, "-m", "runner", "sweep", str(file)]
    trials = open_store(f"{home}/sweeps/tiny/trials")
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL) as driver:
        while not any(f.name.endswith("/checkpoint_001/config.json") for f in trials.walk()):
            assert driver.poll() is None, "the sweep ended before it could be killed"
            time.sleep(0.1)
        driver.send_signal(signal.SIGKILL)
        driver.wait()
    assert not any(f.name.endswith(f"epoch_{EPOCHS:03d}.train.json") for f in trials.walk())


@pytest.mark.slow
def test_killed_and_resumed_through_a_storm_it_ends_as_undisturbed_and_its_checkpoints_serve(
    file, undisturbed, s3, proxy, tmp_path
):
    kill_in_the_middle(file, s3.place("home"), tmp_path)
    settings = settings_of(s3.place("home"), tmp_path)
    with _Storm(proxy, seconds=120) as storm:
        plan, result = run(file, settings)
        assert storm.passed
    assert [fault.times for fault in proxy.faults] == [0]
    assert not result.failed
    assert (story(plan), figures(result)) == undisturbed
    kept = set(open_store(s3.place("home/sweeps/tiny/trials")).folders())
    assert kept == {trial.key for trial in plan.stored.trials()}
    assert result.page == s3.place("home/sweeps/tiny/comparison.html")
    assert b"<html" in plan.store.read("comparison.html")
    # Nothing of the sweep is on this disk but what is local by nature.
    assert {path.name for path in tmp_path.iterdir()} <= {"cache", "mlflow.db", ".mlflow.db.lock", "mlruns"}
    # Asked again, it has ended; its checkpoints are models, and one becomes the champion.
    assert figures(run(file, settings)[1]) == undisturbed[1]
    (trial,) = plan.stored.trials()
    last = plan.stored.history(trial).records()[-1].checkpoint
    assert load_model(last, settings.objects).epoch == EPOCHS
    tracker = Tracker.of(settings)
    best = best_run(tracker, "tiny", plan.sweep.metric, plan.sweep.mode)
    assert best.tags["r2d2.checkpoint.best"].startswith(s3.place("home/sweeps/tiny/trials/"))
    evaluator = PromotionRule(tracker, settings)
    assert promote(tracker, best, evaluator, plan.sweep.metric, force=True).promoted


@pytest.fixture
def little_room(tmp_path, monkeypatch):
    """The disk on which Ray's processes stage checkpoints has room for those of small networks only."""
    with small_disk(tmp_path / "disk", "2m") as folder:
        monkeypatch.setenv("TMPDIR", str(folder))
        # Ray's own files and those of this process lie where they always do.
        monkeypatch.setenv("RAY_TMPDIR", "/tmp")
        monkeypatch.setattr(tempfile, "tempdir", "/tmp")
        yield folder


def test_a_full_disk_fails_the_trial_with_the_reason_and_retry_continues_it(s3, tmp_path, little_room):
    file = tmp_path / "tiny.py"
    file.write_text(SWEEP.replace('"channels": 1', '"channels": tune.grid_search([1, 4])'))
    settings = settings_of(s3.place("home"), tmp_path)
    plan, result = run(file, settings)
    small, large = sorted(plan.stored.trials(), key=lambda trial: trial.config.network.channels)
    assert result.failed.keys() == {large.key}
    assert re.search(
        rf"a disk of the node [\d.]+ is full \({little_room}.*: {os.strerror(errno.ENOSPC)}\)",
        result.failed[large.key],
    )
    # What was not kept did not happen.
    assert plan.stored.history(large).records() == []
    assert not any("/checkpoint_0" in file.name for file in plan.stored.trial_store(large).walk())
    assert plan.stored.history(small).is_complete(EPOCHS, plan.roles)
    enlarge(little_room, "64m")
    again = plan_sweep(str(file), settings, SweepOptions(only=frozenset({large.key})))
    assert run_sweep(again, settings, Console(quiet=True)).failed == {}
    assert again.stored.history(large).is_complete(EPOCHS, again.roles)


@pytest.mark.slow
def test_the_history_holds_what_is_told_of_training(undisturbed):
    assert [(epoch, kind) for epoch, kind, _ in undisturbed[0]] == [
        (epoch, kind) for epoch in range(1, EPOCHS + 1) for kind in (TRAIN, "validation")
    ]
