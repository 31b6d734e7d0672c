"""Sweeps on the real engines: they end with a table, survive a kill, stop bad trials, name what failed."""

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

from evaluation.statistics.comparison import Verdict
from runner.cli.compare import show_report
from runner.record.history import TRAIN
from runner.settings import Settings
from runner.sweep.plan import SweepOptions, plan_sweep
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
SPEED = ("train/pairs_per_second", "worker/")


TINY = """
from functools import partial
from ray import tune
from ray.tune.schedulers import ASHAScheduler
from search_spaces.sweep import Sweep

TINY = {
    "network": {"channels": 1, "dim": 16},
    "data": {"crop_size": 64, "held_out": 2, "pairs_per_epoch": 24, "max_shorter_side": 320},
    "optimiser": {"learning_rate": 3e-3},
    "pairs_per_worker": 4,
    "epochs": 2,
}
"""
ONE_AND_TWO_WORKERS = """
sweep = Sweep(samples=True, space=[
    {**TINY, "loss": {"similarity": "dice"}},
    {**TINY, "pairs_per_worker": 2, "num_workers": 2},
])
"""
ONE_BAD = """
# A trial that can match, then one that cannot (its descriptors are one number, 1 or -1: one match in each
# pair of images), then a third. How right the matches of so small a network are is a matter of chance.
ONE = {**TINY, "data": {**TINY["data"], "held_out": 1, "pairs_per_epoch": 160}}
sweep = Sweep(
    samples=True,
    space=[
        {**ONE, "network": {"channels": 1, "dim": dim}, "epochs": epochs}
        for dim, epochs in [(16, 3), (1, 6), (8, 2)]
    ],
    metric="validation/matching_score",
    scheduler=partial(ASHAScheduler, time_attr="epoch", max_t=6, grace_period=2, reduction_factor=2),
    baselines=False,
)
"""
ONE_EXPLODES = """
sweep = Sweep(
    samples=True,
    space={**TINY, "epochs": 1, "optimiser": {"learning_rate": tune.grid_search([1e30, 1e-3])}},
    baselines=False,
)
"""
SEARCHED = """
from ray.tune.search.optuna import OptunaSearch
sweep = Sweep(
    samples=True,
    space={**TINY, "epochs": 1, "optimiser": {"learning_rate": tune.loguniform(1e-4, 1e-2)}},
    num_samples=2, search_alg=OptunaSearch, baselines=False,
)
"""


def write_sweep(folder: Path, text: str, name: str = "tiny") -> Path:
    file = folder / f"{name}.py"
    file.write_text(f'"""Does it work?"""\n{TINY}{text}')
    return file


def settings_in(home: Path) -> Settings:
    return Settings.from_environment({"R2D2_HOME": str(home)})


def run(file: Path, home: Path, options: SweepOptions | None = None):
    settings = settings_in(home)
    plan = plan_sweep(str(file), settings, options or SweepOptions())
    return plan, run_sweep(plan, settings, Console(quiet=True))


def story(plan) -> dict[str, list]:
    """Every event of every trial, but for how fast it was and where its files are."""
    return {
        trial.key: [
            (r.epoch, r.kind, {k: v for k, v in r.metrics.items() if not k.startswith(SPEED)})
            for r in plan.stored.history(trial).records()
        ]
        for trial in plan.stored.trials()
    }


def runs_of(plan, home: Path):
    settings = settings_in(home)
    return Tracker.of(settings).list_runs(plan.definition.name)


def steps_of(home: Path, run_id: str, metric: str) -> list[int]:
    """Every logged step of a metric, duplicates included."""
    settings = settings_in(home)
    tracker = Tracker.of(settings)
    return sorted(m.step for m in tracker.client.get_metric_history(run_id, metric))


def pictures_of(home: Path, run_id: str) -> list[str]:
    """Names of the pictures of epochs on the validation benchmark."""
    settings = settings_in(home)
    tracker = Tracker.of(settings)
    return sorted(Path(f.path).name for f in tracker.client.list_artifacts(run_id, "pictures/validation"))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Two trials, one of them with two workers, that nothing disturbs: file, home, plan, result."""
    folder = tmp_path_factory.mktemp("undisturbed")
    file = write_sweep(folder, ONE_AND_TWO_WORKERS)
    return file, folder / "home", *run(file, folder / "home")


def test_every_epoch_is_trained_and_every_checkpoint_scored(undisturbed):
    _, _, plan, result = undisturbed
    assert not result.failed
    assert not result.behind
    trained = [t for t in plan.stored.trials() if t.config.epochs]
    assert {t.config.num_workers for t in trained} == {1, 2}
    for trial in trained:
        events = [(r.epoch, r.kind) for r in plan.stored.history(trial).records()]
        assert events == [(1, TRAIN), (1, "validation"), (2, TRAIN), (2, "validation")]


def test_the_table_has_a_row_per_variant_and_the_untrained_network(undisturbed):
    *_, result = undisturbed
    assert {row.name for row in result.report.entries} == {
        "ap+dice (scratch), pairs_per_worker=4, num_workers=1",
        "ap+cosine (scratch), pairs_per_worker=2, num_workers=2",
        "untrained network",
    }
    assert all(0 <= row.figures["mma_3px"] <= 1 for row in result.report.entries)


def test_the_comparison_says_which_differences_are_real(undisturbed):
    *_, result = undisturbed
    console = Console(record=True, width=140, file=io.StringIO())
    show_report(console, result.report)
    text = console.export_text()
    assert "difference to ap+dice (scratch)" in text
    assert any(verdict in text for verdict in get_args(Verdict))


def test_mlflow_holds_one_run_per_trial_and_a_summary(undisturbed):
    _, home, plan, result = undisturbed
    runs = runs_of(plan, home)
    assert sorted(r.role for r in runs) == ["baseline", "summary", "trial", "trial"]
    assert {r.status for r in runs} == {"FINISHED"}
    assert result.summary_run in {r.run_id for r in runs}
    for run in [r for r in runs if r.role == "trial"]:
        assert steps_of(home, run.run_id, "train/loss_total") == [1, 2]
        assert steps_of(home, run.run_id, "validation/mma_3px") == [1, 2]
        assert run.params["data.crop_size"] == "64"
        assert Path(run.tags["r2d2.checkpoint.best"]).is_dir()
        assert pictures_of(home, run.run_id) == ["epoch_001.png", "epoch_002.png"]
    assert [pictures_of(home, r.run_id) for r in runs if r.role == "baseline"] == [["epoch_000.png"]]


def test_the_way_to_the_first_step_is_measured(undisturbed):
    _, _, plan, _ = undisturbed
    trial = next(t for t in plan.stored.trials() if t.config.epochs)
    metrics = plan.stored.history(trial).find(1, TRAIN).metrics
    assert 0 < metrics["worker/entered_s"] < metrics["worker/ready_s"] < metrics["worker/first_step_s"]


def test_a_finished_sweep_is_not_run_again(undisturbed):
    file, home, plan, result = undisturbed
    before, started = story(plan), {p: p.stat().st_mtime_ns for p in plan.stored.folder.rglob("train/**/*")}
    again, result2 = run(file, home)
    assert story(again) == before
    assert {p: p.stat().st_mtime_ns for p in plan.stored.folder.rglob("train/**/*")} == started
    assert result2.report.comparison == result.report.comparison
    runs = runs_of(plan, home)
    assert len(runs) == 4
    assert all(steps_of(home, r.run_id, "validation/mma_3px") == [1, 2] for r in runs if r.role == "trial")


def test_a_killed_sweep_is_resumed_and_ends_like_the_undisturbed_one(undisturbed, tmp_path):
    _, _, plan, result = undisturbed
    file, home = write_sweep(tmp_path, ONE_AND_TWO_WORKERS), tmp_path / "home"
    kill_after_the_first_epoch(file, home)
    interrupted, _ = plan_of(file, home)
    assert 0 < trained_epochs(interrupted) < 4
    # As a disk that was full at the wrong moment leaves Ray Train's snapshot.
    for checkpoint in interrupted.folder.glob("trials/*/train/checkpoint_001"):
        (checkpoint.parent / "checkpoint_manager_snapshot.json").write_bytes(b"")
    resumed, result2 = run(file, home)
    assert story(resumed) == story(plan)
    assert result2.report.comparison == result.report.comparison
    assert [row.further for row in result2.report.entries] == [row.further for row in result.report.entries]
    runs = runs_of(resumed, home)
    assert sorted(r.role for r in runs) == ["baseline", "summary", "trial", "trial"]
    assert {r.status for r in runs} == {"FINISHED"}
    for run_ in [r for r in runs if r.role == "trial"]:
        assert steps_of(home, run_.run_id, "train/loss_total") == [1, 2]
        assert steps_of(home, run_.run_id, "validation/mma_3px") == [1, 2]


def plan_of(file: Path, home: Path):
    return plan_sweep(str(file), settings_in(home), SweepOptions()), None


def trained_epochs(plan) -> int:
    return sum(r.kind == TRAIN for t in plan.stored.trials() for r in plan.stored.history(t).records())


def kill_after_the_first_epoch(file: Path, home: Path) -> None:
    """Starts the sweep as a user would and kills its driver with SIGKILL after the first checkpoint."""
    environment = {**os.environ, "R2D2_HOME": str(home)}
    command = [sys.executable, "-m", "runner", "sweep", str(file), "--concurrent", "1"]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL) as driver:
        deadline = time.monotonic() + 240
        while not list(home.glob("sweeps/tiny/trials/*/train/checkpoint_001/config.json")):
            assert driver.poll() is None, "the sweep ended before it could be killed"
            assert time.monotonic() < deadline, "no epoch was trained in time"
            time.sleep(0.05)
        driver.send_signal(signal.SIGKILL)
        driver.wait()


@pytest.mark.slow
def test_a_bad_trial_is_stopped_early_by_its_score(tmp_path):
    file = write_sweep(tmp_path, ONE_BAD)
    plan, result = run(file, tmp_path / "home", SweepOptions(concurrent=1))
    good, bad, _ = plan.trials
    assert max(r.epoch for r in plan.stored.history(good).records()) == 3
    # Its workers end with it: while the third trial trains, it does not. As training does not wait for the
    # evaluator, it may have trained on while the score that stopped it was made.
    epochs = max(r.epoch for r in plan.stored.history(bad).records())
    assert plan.stored.history(bad).stopped_after <= epochs < 6
    statuses = {r.key: (r.status, r.tags.get("r2d2.reason", "")) for r in runs_of(plan, tmp_path / "home")}
    assert statuses[good.key][0] == "FINISHED"
    assert statuses[bad.key][0] == "KILLED"
    assert "stopped early by its score" in statuses[bad.key][1]
    assert not result.failed
    # Asked again, the stopped trial stays stopped.
    run(file, tmp_path / "home", SweepOptions(concurrent=1))
    assert max(r.epoch for r in plan.stored.history(bad).records()) == epochs


def test_a_trial_whose_loss_is_not_finite_fails_with_its_samples_and_the_others_go_on(tmp_path):
    plan, result = run(write_sweep(tmp_path, ONE_EXPLODES), tmp_path / "home")
    exploding, fine = plan.trials
    assert list(result.failed) == [exploding.key]
    assert "not finite" in result.failed[exploding.key]
    assert "pair" in result.failed[exploding.key]
    assert {r.epoch for r in plan.stored.history(fine).records()} == {1}
    statuses = {r.key: r.status for r in runs_of(plan, tmp_path / "home")}
    assert statuses[exploding.key] == "FAILED"
    assert statuses[fine.key] == "FINISHED"


@pytest.mark.slow
def test_a_searcher_suggests_trials_and_is_told_of_those_of_an_earlier_attempt(tmp_path):
    file = write_sweep(tmp_path, SEARCHED)
    plan, result = run(file, tmp_path / "home")
    assert not result.failed
    keys = {t.key for t in plan.stored.trials() if t.config.epochs}
    assert len(keys) == 2
    again, _ = run(file, tmp_path / "home")
    assert {t.key for t in again.stored.trials() if t.config.epochs} == keys
    # Its random numbers begin anew, its trials do not.
    extended, _ = run(file, tmp_path / "home", SweepOptions(num_samples=3))
    more = {t.key for t in extended.stored.trials() if t.config.epochs}
    assert len(more) == 3
    assert more > keys


def test_a_ray_cluster_that_does_not_answer_is_named_at_once(tmp_path):
    plan, _ = plan_of(write_sweep(tmp_path, ONE_EXPLODES), tmp_path / "home")
    settings = dataclasses.replace(settings_in(tmp_path / "home"), ray_address="127.0.0.1:9")
    with pytest.raises(ValueError, match=r"no Ray cluster answers at 127\.0\.0\.1:9: .*refused"):
        run_sweep(plan, settings, Console(quiet=True))
    assert not list((tmp_path / "home" / "sweeps").iterdir())


def test_scores_are_shares(undisturbed):
    _, _, plan, _ = undisturbed
    for events in story(plan).values():
        for _, kind, metrics in events:
            if kind == "validation":
                assert not math.isnan(metrics["validation/mma_3px"])
                assert metrics["validation/mma_1px"] <= metrics["validation/mma_3px"] <= 1
