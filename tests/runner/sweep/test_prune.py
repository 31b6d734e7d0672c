"""Pruning lists before it deletes, and never touches what is still needed."""

import json
import sqlite3
from contextlib import closing
from dataclasses import replace

import pytest

from r2d2.config import TrainConfig
from runner.record.definition import SweepDefinition
from runner.record.history import TRAIN, Record
from runner.record.lease import hold
from runner.record.sweep import StoredSweep
from runner.settings import Settings
from runner.sweep.prune import delete, find_items, registered, removable
from search_spaces.sweep import Trial

TRIAL = Trial(TrainConfig(epochs=8))
OTHER = Trial(TrainConfig(epochs=1, seed=7))
METRIC = "validation/mma_3px"


@pytest.fixture
def settings(tmp_path, tracking_uri):
    return Settings.from_environment(
        {"R2D2_HOME": str(tmp_path / "home"), "MLFLOW_TRACKING_URI": tracking_uri}
    )


@pytest.fixture
def stored(settings, request):
    """A sweep of one trial of eight epochs, the third the best, all checkpoints kept."""
    name = request.node.name
    folder = settings.local / "sweeps" / name
    benchmarks = {"validation": {"protocol": "validation", "protocol_digest": "p", "digest": "d"}}
    trials = {TRIAL.key: TRIAL.config.to_dict()}
    SweepDefinition(name, METRIC, "max", trials, {}, "photos", benchmarks, "").save(folder)
    add_trial(StoredSweep(folder), TRIAL, 8)
    return StoredSweep(folder)


def add_trial(stored, trial, epochs):
    folder = stored.trial_folder(trial)
    for epoch in range(1, epochs + 1):
        checkpoint = folder / "train" / f"checkpoint_{epoch:03d}"
        checkpoint.mkdir(parents=True)
        (checkpoint / "model.safetensors").write_bytes(b"x" * 1000)
        score = 0.9 if epoch == 3 else epoch / 100
        stored.history(trial).write(Record(epoch, TRAIN, {}, str(checkpoint)))
        stored.history(trial).write(Record(epoch, "validation", {METRIC: score}, str(checkpoint)))
    (folder / "config.json").write_text(json.dumps(trial.config.to_dict()))


def names(items) -> list[str]:
    return sorted(item.what.rpartition("/")[2] for item in items)


def listed(settings, tracker, stored, **pruning):
    return list(find_items(settings, lambda: tracker, stored.folder.name, **pruning))


def test_the_best_and_the_last_stay_by_hand():
    records = [Record(e, "validation", {METRIC: s}, "") for e, s in [(1, 0.5), (2, 0.9), (3, 0.1), (4, 0.2)]]
    checkpoints = [f"checkpoint_{epoch:03d}" for epoch in (1, 2, 3, 4, 5)]
    # 2 is the best, 5 the last and without a score.
    assert removable(checkpoints, records, METRIC, "max", 1) == [
        "checkpoint_001",
        "checkpoint_003",
        "checkpoint_004",
    ]
    assert "checkpoint_003" not in removable(checkpoints, records, METRIC, "min", 1)
    assert removable(checkpoints, records, METRIC, "max", 5) == []


def test_checkpoints_beyond_the_policy_are_listed_with_their_size_and_deleted(settings, tracker, stored):
    items = listed(settings, tracker, stored, keep=2)
    # Best: 3 and 8; last: 7 and 8.
    assert names(items) == [f"checkpoint_{epoch:03d}" for epoch in (1, 2, 4, 5, 6)]
    assert {item.size for item in items} == {1000}
    folder = stored.trial_folder(TRIAL) / "train"
    assert len(list(folder.iterdir())) == 8
    delete(items, settings)
    assert sorted(path.name[-1] for path in folder.iterdir()) == ["3", "7", "8"]
    assert listed(settings, tracker, stored, keep=2) == []


def test_a_trial_that_goes_on_keeps_everything(settings, tracker, stored):
    (stored.history(TRIAL).folder / "epoch_008.validation.json").unlink()
    assert listed(settings, tracker, stored, keep=1) == []


def test_nothing_of_a_sweep_that_runs_is_listed_or_deleted(settings, tracker, stored):
    items = listed(settings, tracker, stored, keep=1)
    with hold(stored.folder):
        assert listed(settings, tracker, stored, keep=1) == []
        with pytest.raises(ValueError, match="is being run by"):
            delete(items, settings)
    assert len(list((stored.trial_folder(TRIAL) / "train").iterdir())) == 8


def test_what_a_model_version_was_made_from_stays(settings, tracker, stored, experiment, monkeypatch):
    tags = {"sweep": stored.folder.name}
    run = tracker.open_run(experiment, TRIAL.key, TRIAL.key, tags, {})
    name = f"pruned-{stored.folder.name}"[:60]
    tracker.client.create_registered_model(name)
    tracker.client.create_model_version(name, "/nowhere", run.run_id, tags={"epoch": "5"})
    assert (stored.folder.name, TRIAL.key, 5) in registered(tracker).checkpoints
    assert names(listed(settings, tracker, stored, keep=1)) == [
        f"checkpoint_{epoch:03d}" for epoch in (1, 2, 4, 6, 7)
    ]


def test_trials_that_the_sweep_does_not_have_are_listed_and_failed_ones_if_asked(settings, tracker, stored):
    add_trial(stored, OTHER, 1)
    (stored.folder / "trials" / "half" / "train").mkdir(parents=True)
    (stored.folder / "trials" / "half" / "train" / "x").write_text("x")
    (stored.folder / "tune" / "attempt-001").mkdir(parents=True)
    (stored.folder / "tune" / "attempt-001" / "state.json").write_text("{}")
    items = listed(settings, tracker, stored)
    assert {"half", OTHER.key, "tune"} <= set(names(items))
    stored.history(TRIAL).mark_failed("why")
    assert TRIAL.key not in names(listed(settings, tracker, stored))
    failed = [item for item in listed(settings, tracker, stored, failed=True) if TRIAL.key in item.what]
    assert [item.why for item in failed] == ["a trial that failed"]


def test_runs_of_a_sweep_that_is_gone_are_deleted_with_their_files_and_others_are_not(
    settings, tracker, experiment, request, tmp_path
):
    name = request.node.name
    (settings.local / "sweeps" / "present").mkdir(parents=True)
    checkpoint = {"r2d2.checkpoint.last": f"{settings.home}/sweeps/{name}/trials/a/train/checkpoint_001"}
    run = tracker.open_run(experiment, "a", "a", checkpoint, {})
    (tmp_path / "picture.png").write_bytes(b"x" * 500)
    tracker.client.log_artifact(run.run_id, str(tmp_path / "picture.png"))
    elsewhere = tracker.open_experiment(f"{name}-of-another-home")
    tracker.open_run(elsewhere, "b", "b", {"r2d2.checkpoint.last": "/other/sweeps/x/trials"}, {})
    found = find_items(settings, lambda: tracker)
    items = [item for item in found if "MLflow" in item.what and name in item.what]
    assert [run.run_id in item.what for item in items] == [True]
    assert items[0].size >= 500
    delete(items, settings)
    assert tracker.list_runs(name) == []
    assert len(tracker.list_runs(f"{name}-of-another-home")) == 1


@pytest.mark.parametrize("foreign", ["file://{mine}", "s3://bucket/mine"])
def test_files_that_a_server_says_lie_elsewhere_are_left_alone(settings, tracker, request, tmp_path, foreign):
    name, mine = request.node.name, tmp_path / "mine"
    (settings.local / "sweeps").mkdir(parents=True)
    experiment = tracker.client.create_experiment(name, foreign.format(mine=mine))
    tags = {"r2d2.checkpoint.last": f"{settings.home}/sweeps/{name}/trials/a/train/checkpoint_001"}
    run = tracker.open_run(experiment, "a", "a", tags, {})
    photo = mine / run.run_id / "artifacts" / "photo.jpg"
    photo.parent.mkdir(parents=True)
    photo.write_bytes(b"x")
    found = find_items(settings, lambda: tracker)
    items = [item for item in found if name in item.what]
    assert [f"without its files at {foreign.format(mine=mine)}/" in item.what for item in items] == [True]
    delete(items, settings)
    assert photo.is_file()
    assert tracker.list_runs(name) == []


def test_mlflow_is_not_opened_where_the_list_does_not_depend_on_it(settings, tracker, stored):
    (settings.cache / "predictions").mkdir(parents=True)
    (settings.cache / "predictions" / "a.npz").write_bytes(b"x")
    database = settings.local / "mlflow.db"
    local = replace(settings, tracking_uri=f"sqlite:///{database}")
    # No store at all; one whose only experiment is that of a present sweep; one whose file cannot be read.
    assert names(find_items(local, not_asked, keep=8)) == ["predictions"]
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("CREATE TABLE experiments (name TEXT, lifecycle_stage TEXT)")
        rows = [("Default", "active"), (stored.folder.name, "active"), ("gone", "deleted")]
        connection.executemany("INSERT INTO experiments VALUES (?, ?)", rows)
    assert names(find_items(local, not_asked, keep=8)) == ["predictions"]
    database.write_text("no database")
    with pytest.raises(AssertionError, match="MLflow was asked"):
        list(find_items(local, not_asked, keep=8))
    with pytest.raises(AssertionError, match="MLflow was asked"):
        list(find_items(local, not_asked, stored.folder.name, keep=1))


def not_asked():
    raise AssertionError("MLflow was asked")


def test_stored_predictions_are_listed(settings, tracker):
    folder = settings.cache / "predictions"
    folder.mkdir(parents=True)
    (folder / "a.npz").write_bytes(b"x" * 10)
    (settings.local / "sweeps").mkdir(parents=True)
    found = find_items(settings, lambda: tracker)
    items = [item for item in found if item.what.endswith("predictions")]
    assert [item.size for item in items] == [10]
    delete(items, settings)
    assert not folder.exists()
