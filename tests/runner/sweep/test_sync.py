"""A sweep is logged in MLflow from its folder alone: what it has not, once, as it ended."""

import shutil

import pytest
from mlflow.entities import Metric, Param
from stub_trial import events

from evaluation.protocols import PROTOCOLS
from r2d2.config import TrainConfig
from r2d2.storage.location import open_store
from runner.record.definition import SweepDefinition
from runner.record.history import write_json
from runner.record.lease import hold
from runner.record.sweep import StoredSweep
from runner.sweep.sync import sync_sweep
from runner.tracking.experiments import Tracker
from runner.tracking.note import DatasetUse, TrackingNote, has_answered
from runner.tracking.run import rounded
from search_spaces.sweep import Trial

TRIALS = [Trial(TrainConfig(seed=seed, epochs=2)) for seed in range(3)]
USES = (
    DatasetUse("samples", "a" * 64, "samples", "training"),
    DatasetUse("validation", "d" * 64, "/held-out", "validation"),
)


@pytest.fixture
def sweep(tmp_path, request):
    """A sweep of a trial that ended, one that failed and one whose driver was killed in its second epoch."""
    store = open_store(tmp_path / request.node.name)
    definition = SweepDefinition(
        name=request.node.name,
        metric="validation/mma_3px",
        mode="max",
        trials={trial.key: trial.config.to_dict() for trial in TRIALS},
        search={},
        photos=f"{'a' * 64} {'d' * 64}",
        benchmarks={
            "validation": {
                "protocol": "validation",
                "protocol_digest": PROTOCOLS["validation"].digest,
                "digest": "d" * 64,
            }
        },
        init="",
    )
    definition.save(store)
    TrackingNote(USES).save(store)
    stored = StoredSweep(store)
    for trial, epochs in zip(TRIALS, (2, 1, 1), strict=True):
        history = stored.history(trial)
        write_json(stored.trial_folder(trial) / "config.json", trial.config.to_dict())
        for epoch in range(1, epochs + 1):
            for record in events(trial, epoch, history.folder, "d" * 64):
                history.write(record)
    stored.history(TRIALS[1]).mark_failed("out of memory")
    return store


def test_each_trial_is_logged_as_it_ended_and_once(sweep, tracker, request):
    for _ in range(2):
        result = sync_sweep(sweep, tracker, pytest.fail)
        assert (result.trials, result.behind, result.summary_run) == (3, {}, None)
        runs = {run.key: run for run in tracker.list_runs(request.node.name)}
        assert [runs[trial.key].status for trial in TRIALS] == ["FINISHED", "FAILED", "KILLED"]
        assert runs[TRIALS[1].key].tags["r2d2.reason"] == "out of memory"
        assert "interrupted" in runs[TRIALS[2].key].tags["r2d2.reason"]
        for trial, steps in zip(TRIALS, ([1, 2], [1], [1]), strict=True):
            logged = tracker.client.get_metric_history(runs[trial.key].run_id, "validation/mma_3px")
            assert [m.step for m in logged] == steps


def test_a_sweep_that_has_ended_gets_its_summary(sweep, tracker, request):
    stored = StoredSweep(sweep)
    for record in events(TRIALS[2], 2, stored.history(TRIALS[2]).folder, "d" * 64):
        stored.history(TRIALS[2]).write(record)
    result = sync_sweep(sweep, tracker, print)
    assert result.summary_run is not None
    files = {file.path for file in tracker.client.list_artifacts(result.summary_run)}
    assert {"comparison.html", "variants.json"} <= files
    summary, *trials = sorted(tracker.list_runs(request.node.name), key=lambda run: run.role != "summary")
    described = tracker.client.get_experiment(summary.experiment_id).tags["mlflow.note.content"]
    assert summary.tags["mlflow.note.content"] == described
    assert " is highest, MMA@3 " in described.splitlines()[0]
    assert {run.name for run in trials} == {f"{t.variant}, seed {t.config.seed}" for t in TRIALS}
    metric = "validation/mma_3px"
    assert summary.metrics[metric] == max(run.metrics[metric] for run in trials)


def test_a_sweep_that_runs_is_left_to_its_driver(sweep, tracker):
    with hold(sweep.place), pytest.raises(ValueError, match="is being run by process"):
        sync_sweep(sweep, tracker, pytest.fail)


def test_a_sweep_of_an_earlier_version_is_named(sweep, tracker):
    sweep.delete("mlflow.json")
    with pytest.raises(ValueError, match="was written by an earlier version"):
        sync_sweep(sweep, tracker, pytest.fail)


def test_a_store_that_has_answered_is_remembered(sweep, tmp_path):
    home = open_store(tmp_path)
    assert not has_answered(home, "http://mlflow:5000")
    TrackingNote(USES).answered("http://mlflow:5000").save(sweep)
    assert has_answered(home, "http://mlflow:5000")
    assert not has_answered(home, "http://mlflaw:5000")


def test_a_store_that_was_moved_away_or_restored_gets_what_it_lacks(sweep, tmp_path, request):
    store, yesterday = tmp_path / "mlflow.db", tmp_path / "yesterday.db"

    def sync(store):
        """Logs in a store that is opened anew; returns the epochs of each trial that it has."""
        tracker = Tracker(f"sqlite:///{store}", str(tmp_path / "artifacts"))
        assert sync_sweep(sweep, tracker, pytest.fail).behind == {}
        runs = {run.key: run for run in tracker.list_runs(request.node.name)}
        logged = (tracker.metric_history(runs[t.key].run_id, "validation/mma_3px") for t in TRIALS)
        return [sorted(steps) for steps in logged]

    assert sync(store) == [[1, 2], [1], [1]]
    shutil.copyfile(store, yesterday)
    stored = StoredSweep(sweep)
    for record in events(TRIALS[2], 2, stored.history(TRIALS[2]).folder, "d" * 64):
        stored.history(TRIALS[2]).write(record)
    assert sync(store) == [[1, 2], [1], [1, 2]]
    # Under a name of its own, because this process has the former one open.
    assert sync(yesterday) == [[1, 2], [1], [1, 2]]
    assert sync(tmp_path / "new.db") == [[1, 2], [1], [1, 2]]


def as_the_release_of_november_left_it(tracker, sweep, trial, events, tags, status="RUNNING"):
    """A run as that release logged it: parameters, data sets, each epoch's figures; returns its id."""
    client = tracker.client
    experiment = tracker.open_experiment(StoredSweep(sweep).name)
    first = {"sweep": "mine", "role": "trial", "r2d2.code_version": "0" * 40, "r2d2.key": trial.key}
    first |= {f"r2d2.dataset.{use.context}": use.digest for use in USES}
    run_id = client.create_run(
        experiment, 1000, first, f"{trial.variant}, seed {trial.config.seed}"
    ).info.run_id
    client.log_inputs(run_id, [use.to_input() for use in USES])
    params = [Param(key, str(value)) for key, value in trial.config.flat().items()]
    # At a time that the file of an event no longer has, as of a home that was copied.
    metrics = [Metric(k, rounded(v), 1234, r.epoch) for r in events for k, v in r.metrics.items()]
    client.log_batch(run_id, metrics=metrics, params=params)
    for key, value in tags.items():
        client.set_tag(run_id, key, value)
    if status != "RUNNING":
        client.set_terminated(run_id, status)
    return run_id


@pytest.mark.parametrize("counted", [True, False])
def test_runs_of_the_last_release_are_continued_and_hold_each_figure_once(sweep, tracker, request, counted):
    """One run that had ended, one that failed, one without the last score of its only epoch.

    Releases before that did not count a run's events in its tags.
    """
    stored, former = StoredSweep(sweep), {}
    for trial, status, missing in zip(TRIALS, ("FINISHED", "FAILED", "RUNNING"), (0, 0, 1), strict=True):
        records = stored.history(trial).records()
        known = records[: len(records) - missing]
        tags = {"r2d2.events": str(len(known))} if counted else {}
        tags |= {"r2d2.reason": "out of memory"} if status == "FAILED" else {}
        former[trial.key] = as_the_release_of_november_left_it(tracker, sweep, trial, known, tags, status)
    assert sync_sweep(sweep, tracker, pytest.fail).behind == {}
    runs = {run.key: run for run in tracker.list_runs(request.node.name)}
    assert {key: run.run_id for key, run in runs.items()} == former
    assert [runs[trial.key].status for trial in TRIALS] == ["FINISHED", "FAILED", "KILLED"]
    assert runs[TRIALS[1].key].tags["r2d2.reason"] == "out of memory"
    for trial, epochs in zip(TRIALS, ([1, 2], [1], [1]), strict=True):
        for metric in ("train/loss_total", "train/pairs_per_second", "validation/mma_3px"):
            logged = tracker.client.get_metric_history(former[trial.key], metric)
            assert sorted(m.step for m in logged) == epochs
        assert len(tracker.client.get_run(former[trial.key]).inputs.dataset_inputs) == 2
