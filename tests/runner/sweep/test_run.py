"""Sweeps on the real engines: they end with a table, survive a kill, name what failed."""

import dataclasses
import io
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import get_args

import pytest
from rich.console import Console
from tiny_sweep import run, runs_of, settings_in, steps_of, story, write_sweep

from evaluation.statistics.differences import Verdict
from runner.cli.compare import show_report
from runner.record.history import TRAIN
from runner.sweep.plan import SweepOptions, SweepPlan, plan_sweep
from runner.sweep.run import run_sweep
from runner.tracking.experiments import Tracker

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(600),
    # Ray leaves sockets and processes for its own exit handlers to close.
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray", "ignore::FutureWarning:ray"),
]

ROOT = Path(__file__).parents[3]

# The first trial's loss is not finite; the others come after it.
THREE = """
sweep = Sweep(samples=True, space=[
    {**TINY, "optimiser": {"learning_rate": 1e30}},
    {**TINY, "loss": {"similarity": "dice"}},
    {**TINY, "pairs_per_worker": 2, "num_workers": 2},
])
"""
# The second of the three.
ONE = """
sweep = Sweep(samples=True, space={**TINY, "loss": {"similarity": "dice"}}, starting_networks=False)
"""


def pictures_of(home: Path, run_id: str) -> list[str]:
    """Names of the pictures of epochs on the validation benchmark."""
    tracker = Tracker.of(settings_in(home))
    return sorted(Path(f.path).name for f in tracker.client.list_artifacts(run_id, "pictures/validation"))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Three trials, one of them with two workers, that nothing disturbs: home, plan, result."""
    folder = tmp_path_factory.mktemp("undisturbed")
    return folder / "home", *run(write_sweep(folder, THREE), folder / "home")


@pytest.fixture(scope="module")
def resumed(tmp_path_factory):
    """A sweep of one of these trials, resumed after a kill: file, home, plan, result."""
    folder = tmp_path_factory.mktemp("killed")
    file, home = write_sweep(folder, ONE), folder / "home"
    kill_after_the_first_epoch(file, home)
    interrupted = plan_of(file, home)
    assert trained_epochs(interrupted) == 1
    # As a disk that was full at the wrong moment leaves Ray Train's snapshot.
    for checkpoint in interrupted.stored.folder.glob("trials/*/train/checkpoint_001"):
        (checkpoint.parent / "checkpoint_manager_snapshot.json").write_bytes(b"")
    return file, home, *run(file, home)


def kill_after_the_first_epoch(file: Path, home: Path) -> None:
    """Starts the sweep as a user would and kills its driver with SIGKILL after the first checkpoint."""
    environment = {**os.environ, "R2D2_HOME": str(home)}
    command = [sys.executable, "-m", "runner", "sweep", str(file)]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL) as driver:
        deadline = time.monotonic() + 240
        while not list(home.glob("sweeps/tiny/trials/*/train/checkpoint_001/config.json")):
            assert driver.poll() is None, "the sweep ended before it could be killed"
            assert time.monotonic() < deadline, "no epoch was trained in time"
            time.sleep(0.05)
        driver.send_signal(signal.SIGKILL)
        driver.wait()


def plan_of(file: Path, home: Path) -> SweepPlan:
    return plan_sweep(str(file), settings_in(home), SweepOptions())


def trained_epochs(plan: SweepPlan) -> int:
    return sum(r.kind == TRAIN for t in plan.stored.trials() for r in plan.stored.history(t).records())


def test_every_epoch_is_trained_and_every_checkpoint_scored(undisturbed):
    _, plan, result = undisturbed
    assert not result.behind
    _, *trained = plan.trials
    assert {t.config.num_workers for t in trained} == {1, 2}
    for trial in trained:
        events = [(r.epoch, r.kind) for r in plan.stored.history(trial).records()]
        assert events == [(1, TRAIN), (1, "validation"), (2, TRAIN), (2, "validation")]


def test_a_trial_whose_loss_is_not_finite_fails_with_its_samples_and_the_others_go_on(undisturbed):
    home, plan, result = undisturbed
    exploding, *others = plan.trials
    assert list(result.failed) == [exploding.key]
    assert "not finite" in result.failed[exploding.key]
    assert "pair" in result.failed[exploding.key]
    assert plan.stored.history(exploding).records() == []
    statuses = {r.key: r.status for r in runs_of(plan, home)}
    assert statuses[exploding.key] == "FAILED"
    assert {statuses[trial.key] for trial in others} == {"FINISHED"}


def test_the_table_has_a_row_per_variant_and_the_untrained_network(undisturbed):
    *_, result = undisturbed
    scored = [row for row in result.report.variants if "mma_3px" in row.figures]
    assert {row.name for row in scored} == {
        "ap+dice (scratch), learning_rate=0.003, pairs_per_worker=4, num_workers=1",
        "ap+cosine (scratch), learning_rate=0.003, pairs_per_worker=2, num_workers=2",
        "untrained network",
    }
    assert all(0 <= row.figures["mma_3px"] <= 1 for row in scored)
    (without,) = [row.name for row in result.report.variants if row not in scored]
    assert without == "ap+cosine (scratch), learning_rate=1e+30, pairs_per_worker=4, num_workers=1"


def test_the_comparison_says_which_differences_are_real(undisturbed):
    *_, result = undisturbed
    console = Console(record=True, width=140, file=io.StringIO())
    show_report(console, result.report)
    text = console.export_text()
    assert "difference to ap+dice (scratch)" in text
    assert any(verdict in text for verdict in get_args(Verdict))


def test_mlflow_holds_one_run_per_trial_and_a_summary(undisturbed):
    home, plan, result = undisturbed
    runs = runs_of(plan, home)
    assert sorted(r.role for r in runs) == ["baseline", "summary", "trial", "trial", "trial"]
    assert result.summary_run in {r.run_id for r in runs}
    finished = [r for r in runs if r.status == "FINISHED"]
    assert len(finished) == 4
    for trained in [r for r in finished if r.role == "trial"]:
        assert steps_of(home, trained.run_id, "train/loss_total") == [1, 2]
        assert steps_of(home, trained.run_id, "validation/mma_3px") == [1, 2]
        assert trained.params["data.crop_size"] == "64"
        assert Path(trained.tags["r2d2.checkpoint.best"]).is_dir()
        assert pictures_of(home, trained.run_id) == ["epoch_001.png", "epoch_002.png"]
    assert [pictures_of(home, r.run_id) for r in runs if r.role == "baseline"] == [["epoch_000.png"]]


def test_the_way_to_the_first_step_is_measured(undisturbed):
    _, plan, _ = undisturbed
    metrics = plan.stored.history(plan.trials[1]).find(1, TRAIN).metrics
    assert 0 < metrics["worker/entered_s"] < metrics["worker/ready_s"] < metrics["worker/first_step_s"]


def test_scores_are_shares(undisturbed):
    _, plan, _ = undisturbed
    scores = [metrics for events in story(plan).values() for _, kind, metrics in events if kind != TRAIN]
    assert len(scores) == 5
    for metrics in scores:
        assert not math.isnan(metrics["validation/mma_3px"])
        assert metrics["validation/mma_1px"] <= metrics["validation/mma_3px"] <= 1


@pytest.mark.slow
def test_a_killed_sweep_is_resumed_and_ends_like_the_undisturbed_one(undisturbed, resumed):
    _, undisturbed_plan, undisturbed_result = undisturbed
    _, home, plan, result = resumed
    (trial,) = plan.trials
    assert story(plan) == {trial.key: story(undisturbed_plan)[trial.key]}
    (row,) = result.report.variants
    expected = next(r for r in undisturbed_result.report.variants if r.name.startswith("ap+dice"))
    assert (row.figures, row.further) == (expected.figures, expected.further)
    runs = {r.role: r for r in runs_of(plan, home)}
    assert sorted(runs) == ["summary", "trial"]
    assert {r.status for r in runs.values()} == {"FINISHED"}
    for metric in ("train/loss_total", "validation/mma_3px"):
        assert steps_of(home, runs["trial"].run_id, metric) == [1, 2]


@pytest.mark.slow
def test_a_finished_sweep_is_not_run_again(resumed):
    file, home, plan, result = resumed
    before = story(plan), {p: p.stat().st_mtime_ns for p in plan.stored.folder.rglob("train/**/*")}
    again, result2 = run(file, home)
    assert (story(again), {p: p.stat().st_mtime_ns for p in plan.stored.folder.rglob("train/**/*")}) == before
    assert [row.figures for row in result2.report.variants] == [row.figures for row in result.report.variants]
    runs = runs_of(plan, home)
    assert len(runs) == 2
    assert all(steps_of(home, r.run_id, "validation/mma_3px") == [1, 2] for r in runs if r.role == "trial")


def test_a_ray_cluster_that_does_not_answer_is_named_at_once(tmp_path):
    plan = plan_of(write_sweep(tmp_path, ONE), tmp_path / "home")
    settings = dataclasses.replace(settings_in(tmp_path / "home"), ray_address="127.0.0.1:9")
    with pytest.raises(ValueError, match=r"no Ray cluster answers at 127\.0\.0\.1:9: .*refused"):
        run_sweep(plan, settings, Console(quiet=True))
    assert not list((tmp_path / "home" / "sweeps").iterdir())
