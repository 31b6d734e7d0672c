"""A home that was moved or copied is found where it is: nothing is read or written at its former place."""

import json
import multiprocessing
import shutil
import sqlite3
from pathlib import Path

import pytest
from stub_trial import events

from evaluation.protocols import PROTOCOLS
from r2d2.checkpoint import load_checkpoint, save_checkpoint
from r2d2.config import TrainConfig
from r2d2.network import build_network
from r2d2.storage.location import open_store
from runner.record.checkpoints import existing
from runner.record.definition import SweepDefinition
from runner.record.history import History, write_json
from runner.record.sweep import StoredSweep
from runner.registry.package import resolve_model
from runner.registry.promote import PromotionVerdict, best_run, promote
from runner.settings import Settings
from runner.sweep.prune import delete, find_items
from runner.sweep.sync import sync_sweep
from runner.tracking.experiments import Tracker
from runner.tracking.moved_home import PresentPlaces
from runner.tracking.note import DatasetUse, TrackingNote
from search_spaces.sweep import Trial

CONFIG = TrainConfig.from_dict({"network": {"name": "fast", "channels": 1, "dim": 16}, "epochs": 2})
TRIAL = Trial(CONFIG)
METRIC, DIGEST = "validation/mma_3px", "d" * 64
USES = (
    DatasetUse("samples", "a" * 64, "samples", "training"),
    DatasetUse("validation", DIGEST, "/held-out", "validation"),
)


@pytest.fixture
def home(tmp_path, tracker, store):
    """A home with a store of its own, which takes less time to copy than to make."""
    (tmp_path / "home").mkdir()
    shutil.copyfile(store / "mlflow.db", tmp_path / "home" / "mlflow.db")
    return tmp_path / "home"


@pytest.fixture
def name(request):
    return request.node.name


def passes(*_):
    return PromotionVerdict(True, "better")


def settings_of(home):
    return Settings.from_environment({"R2D2_HOME": str(home)})


def add_epoch(stored, epoch):
    history = stored.history(TRIAL)
    checkpoint = stored.trial_folder(TRIAL) / "train" / f"checkpoint_{epoch:03d}"
    save_checkpoint(checkpoint, build_network(CONFIG.network, seed=epoch), CONFIG, epoch=epoch)
    for record in events(TRIAL, epoch, history.folder, DIGEST):
        history.write(type(record)(**{**vars(record), "checkpoint": str(checkpoint)}))


def make_sweep(home, name, epochs=2):
    store = settings_of(home).sweep(name)
    protocol = {"protocol": "validation", "protocol_digest": PROTOCOLS["validation"].digest, "digest": DIGEST}
    trials = {TRIAL.key: CONFIG.to_dict()}
    SweepDefinition(name, METRIC, "max", trials, {}, "photos", {"validation": protocol}, "").save(store)
    TrackingNote(USES).save(store)
    stored = StoredSweep(store)
    write_json(stored.trial_folder(TRIAL) / "config.json", CONFIG.to_dict())
    for epoch in range(1, epochs + 1):
        add_epoch(stored, epoch)
    return stored


def begin(home, name, model):
    """A sweep of one epoch, logged and promoted."""
    make_sweep(home, name, epochs=1)
    tracker = Tracker.of(settings_of(home))
    assert sync_sweep(settings_of(home).sweep(name), tracker, print).behind == {}
    promote(tracker, best_run(tracker, name, METRIC), passes, METRIC, name=model)


def in_another_process(action, *arguments):
    """Runs an action where MLflow remembers nothing of it."""
    process = multiprocessing.get_context("fork").Process(target=action, args=arguments)
    process.start()
    process.join(120)
    assert process.exitcode == 0


def places_in(database):
    """Everything in the database that names a place of this test."""
    with sqlite3.connect(database) as connection:
        dump = list(connection.iterdump())
    connection.close()
    return [line for line in dump if line.startswith("INSERT") and "/artifacts/" in line]


@pytest.mark.parametrize("how", ["moved", "copied"])
def test_everything_of_a_home_is_found_below_its_present_place(home, tmp_path, name, how):
    model = f"moved-{how}"
    in_another_process(begin, home, name, model)
    before = {p: p.stat().st_mtime_ns for p in home.rglob("*") if p.is_file()}
    present = tmp_path / "elsewhere" / "home2"
    present.parent.mkdir()
    if how == "moved":
        home.rename(present)
    else:
        shutil.copytree(home, present)

    settings = settings_of(present)
    tracker = Tracker.of(settings)
    stored = StoredSweep(settings.sweep(name))
    run = best_run(tracker, name, METRIC)
    assert run.tags["r2d2.checkpoint.best"].startswith(str(present))
    champion = resolve_model(f"models:/{model}@champion", tracker)
    assert champion.is_relative_to(present)
    assert load_checkpoint(champion).epoch == 1
    assert resolve_model(f"runs:/{run.run_id}", tracker).is_relative_to(present)
    assert "dim" in Path(tracker.client.download_artifacts(run.run_id, "config.json")).read_text()

    add_epoch(stored, 2)
    assert existing(stored.history(TRIAL).records()) == {
        str(present / f"sweeps/{name}/trials/{TRIAL.key}/train/checkpoint_{n:03d}") for n in (1, 2)
    }
    result = sync_sweep(settings.sweep(name), tracker, pytest.fail)
    assert (result.behind, result.summary_run is not None) == ({}, True)
    # What was promoted from a trial that had not ended is still of its run.
    assert tracker.client.get_model_version(model, "1").run_id == best_run(tracker, name, METRIC).run_id
    again = promote(tracker, best_run(tracker, name, METRIC), passes, METRIC, name=model)
    assert (again.promoted, again.version) == (True, 2)
    assert load_checkpoint(resolve_model(f"models:/{model}@champion", tracker)).epoch == 2
    assert all(str(present) in item.what for item in find_items(settings, lambda: tracker, name, keep=1))

    # Nothing names the former place, and nothing was written there.
    assert [line for line in places_in(present / "mlflow.db") if f"{home}/artifacts" in line] == []
    after = {p: p.stat().st_mtime_ns for p in home.rglob("*") if p.is_file()} if home.exists() else {}
    assert after == ({} if how == "moved" else before)


def test_runs_of_a_sweep_that_is_gone_are_pruned_after_a_move_too(home, tmp_path, name):
    make_sweep(home, name)
    sync_sweep(settings_of(home).sweep(name), Tracker.of(settings_of(home)), pytest.fail)
    present = tmp_path / "home2"
    home.rename(present)
    shutil.rmtree(present / "sweeps" / name)
    settings = settings_of(present)
    tracker = Tracker.of(settings)
    items = [item for item in find_items(settings, lambda: tracker) if name in item.what]
    assert len(items) == 2
    delete(items, settings)
    assert tracker.list_runs(name) == []
    assert not home.exists()


def test_a_store_that_serves_several_homes_is_left_as_it_is(home, tmp_path, name, tracking_uri):
    other = tmp_path / "other"
    uri = f"sqlite:///{home / 'mlflow.db'}"
    experiment = Tracker(uri, str(other / "artifacts")).open_experiment(name)
    (other / "artifacts" / name).mkdir(parents=True)
    location = Tracker.of(settings_of(home)).client.get_experiment(experiment).artifact_location
    assert location == str(other / "artifacts" / name)


def test_checkpoints_of_trials_that_are_not_here_keep_their_place(tmp_path):
    write_json(tmp_path / "sweeps/mine/trials/key/config.json", {})
    places = PresentPlaces(open_store(tmp_path / "sweeps"))
    below = "sweeps/mine/trials/key/train/checkpoint_001"
    assert places.of(f"/former/{below}") == str(tmp_path / below)
    assert places.of(f"s3://bucket/home/{below}") == str(tmp_path / below)
    for foreign in (
        "/x/sweeps/mine/trials/other/train/c",
        "/x/sweeps/theirs/trials/key/train/c",
        "/x/c",
        "uri",
    ):
        assert places.of(foreign) == foreign


def test_what_an_earlier_version_wrote_down_with_the_whole_path_is_found(tmp_path):
    history = History(tmp_path / "key" / "history")
    event = {"epoch": 1, "kind": "train", "metrics": {}, "checkpoint": "/former/key/train/checkpoint_001"}
    write_json(history.folder / "epoch_001.train.json", event)
    [record] = history.records()
    assert record.checkpoint == str(tmp_path / "key/train/checkpoint_001")
    assert history.find(1, "train") == record
    history.write(record)
    assert json.loads((history.folder / "epoch_001.train.json").read_text())["checkpoint"] == (
        "train/checkpoint_001"
    )
    assert history.records() == [record]
