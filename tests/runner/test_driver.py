"""What a sweep's driver logs and shows on the terminal, with trials that train nothing and without Ray."""

import io
import json
from contextlib import contextmanager
from functools import partialmethod
from types import SimpleNamespace

import pytest
from rich.console import Console
from stub_trial import events

import runner.sweep.run
from runner.cluster.connect import Capacity
from runner.settings import Settings
from runner.sweep.plan import SweepOptions, plan_sweep
from runner.sweep.run import run_sweep
from runner.sweep.sync import sync_sweep
from runner.sweep.tuner import Tuning
from runner.tracking.experiments import Tracker
from runner.tracking.reporter import Reporter
from runner.tracking.store import ServerAwayError, TrackingError
from runner.trial.driver import CONFIG_KEY

SWEEP = '''"""Is it told?"""
from ray import tune
from search_spaces.sweep import Sweep
sweep = Sweep(
    samples=True,
    space={"data": {"held_out": 1, "crop_size": 64}, "seed": tune.grid_search([0, 1]), "epochs": 2},
    starting_networks=False,
)
'''


@contextmanager
def no_cluster(*_):
    yield Capacity(cpus=2, gpus=0)


def run_here(tuning, trials):
    """Stands for Tune: runs trial after trial, and says what Tune would say."""
    plan, callback = tuning.plan, tuning.callback
    digest = plan.data.digests["validation"]
    for trial in trials:
        tune_trial = SimpleNamespace(config={CONFIG_KEY: trial.config.to_dict()})
        callback.on_trial_start(0, [], tune_trial)
        plan.stored.trial_store(trial).write("config.json", json.dumps(trial.config.to_dict()).encode())
        history = plan.stored.history(trial)
        for epoch in (1, 2):
            for record in events(trial, epoch, history.folder, digest):
                history.write(record)
                callback.on_trial_result(0, [], tune_trial, {"epoch": epoch, "kind": record.kind})
        callback.on_trial_complete(0, [], tune_trial)
    callback.close([trial.key for trial in trials])


def no_pool_but_here(benchmarks, evaluators, where):
    assert where == "here", "another node may go before the driver's"


@pytest.fixture
def drive(tmp_path, monkeypatch):
    """Runs the sweep under a name; returns its plan, its result and what the terminal showed."""
    monkeypatch.setattr(runner.sweep.run, "ray_cluster", no_cluster)
    monkeypatch.setattr(runner.sweep.run, "start_pool", no_pool_but_here)
    monkeypatch.setattr(runner.sweep.run, "on_this_node", lambda: "here")
    monkeypatch.setattr(Tuning, "run_listed", run_here)
    monkeypatch.setattr("runner.tracking.reporter.ASK_AGAIN", (0.02, 0.1))
    file = tmp_path / "told.py"
    file.write_text(SWEEP)
    settings = Settings.from_environment({"R2D2_HOME": str(tmp_path / "home")})

    def run(name):
        console = Console(file=io.StringIO(), width=200)
        plan = plan_sweep(str(file), settings, SweepOptions(name=name))
        return plan, run_sweep(plan, settings, console), console.file.getvalue()

    run.tracker = lambda: Tracker.of(settings)
    run.home = tmp_path / "home"
    return run


def go_away(monkeypatch):
    """Takes MLflow away, and has nobody wait for it at the end."""

    def refuse(*_, **__):
        raise TrackingError("nobody there")

    for name in ("check", "open_experiment", "open_run"):
        monkeypatch.setattr(Tracker, name, refuse)
    monkeypatch.setattr(Reporter, "settle", partialmethod(Reporter.settle, timeout=0.5))


def test_a_sweep_is_logged_while_it_runs_and_its_summary_at_its_end(drive):
    plan, result, _ = drive("told")
    assert (result.failed, result.behind, result.interrupted) == ({}, {}, False)
    runs = {run.key: run for run in drive.tracker().list_runs("told")}
    assert set(runs) == {*(trial.key for trial in plan.trials), "summary"}
    assert {run.status for run in runs.values()} == {"FINISHED"}
    assert result.summary_run == runs["summary"].run_id
    for trial in plan.trials:
        steps = drive.tracker().metric_history(runs[trial.key].run_id, "validation/mma_3px")
        assert list(steps) == [1, 2]
    table = drive.tracker().client.get_experiment_by_name("told").tags["mlflow.sharedViewState.r2d2"]
    assert '"orderByKey": "metrics.`validation/mma_3px`"' in table


def test_more_workers_than_the_cluster_has_are_refused_at_once(drive):
    file = drive.home.parent / "told.py"
    file.write_text(SWEEP.replace('"epochs": 2', '"num_workers": 64'))
    with pytest.raises(ValueError, match=r"a trial asks for 64 workers .* but the cluster has 2 CPUs"):
        drive("large")
    # Nothing is left that the corrected sweep would be said to differ from.
    assert not list((drive.home / "sweeps").iterdir())


def test_a_store_that_has_answered_may_be_away_for_a_whole_sweep(drive, monkeypatch):
    drive("first")
    with monkeypatch.context() as patch:
        go_away(patch)
        plan, result, shown = drive("second")
        assert result.failed == {}
        assert set(result.behind) == {trial.key for trial in plan.trials}
        assert result.summary_run is None
        assert "MLflow is away since" in shown
        assert "training goes on" in shown
    synced = sync_sweep(plan.store, drive.tracker(), pytest.fail)
    assert synced.behind == {}
    assert synced.summary_run is not None
    assert len(drive.tracker().list_runs("second")) == 3


def test_a_server_that_never_answered_is_refused_at_once(drive, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    settings = Settings.from_environment(
        {"R2D2_HOME": str(drive.home), "MLFLOW_TRACKING_URI": "http://127.0.0.1:9"}
    )
    plan = plan_sweep(str(drive.home.parent / "told.py"), settings, SweepOptions())
    with pytest.raises(ServerAwayError, match=r"http://127\.0\.0\.1:9 does not answer"):
        run_sweep(plan, settings, Console(quiet=True))
    assert not list((drive.home / "sweeps").iterdir())
