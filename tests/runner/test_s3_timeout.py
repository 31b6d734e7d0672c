"""R2D2_S3_TIMEOUT reaches everybody who asks S3, and what is final is not asked again."""

import time

import pytest
from click.testing import CliRunner

from r2d2.config import TrainConfig
from r2d2.storage.errors import PlaceError
from r2d2.storage.s3 import S3Server
from runner.cli.data import data
from runner.record.attempt import read_claim
from runner.record.checkpoints import existing
from runner.record.history import TRAIN, Record, put_json
from runner.record.lease import hold
from runner.record.sweep import StoredSweep
from runner.settings import Settings
from runner.sweep.prune import runs
from runner.sweep.sync import sync_sweep
from runner.tracking.experiments import Tracker
from runner.trial.task import WorkerTask
from search_spaces.sweep import Trial

TIMEOUT = 1.5


@pytest.fixture
def timeouts(odd_s3, monkeypatch, tmp_path):
    """The timeout of every connection that is made, while the environment asks for that of this test."""
    found, make = [], S3Server.__init__

    def noted(server, *arguments):
        make(server, *arguments)
        found.append(server.timeout)

    monkeypatch.setattr(S3Server, "__init__", noted)
    monkeypatch.setenv("R2D2_S3_TIMEOUT", str(TIMEOUT))
    monkeypatch.setenv("R2D2_HOME", "s3://bucket/home")
    monkeypatch.chdir(tmp_path)
    yield found
    assert set(found) == {TIMEOUT}


def test_a_lease_and_what_it_hands_to_workers(timeouts):
    settings = Settings.from_environment()
    with hold(settings.sweep("mine"), 1.0) as lease:
        settings.sweep("mine").write("something", b"")
        assert lease.attempt.is_current()
        task = WorkerTask({}, "scratch", "s3://bucket/home", 1, 0.0, attempt=vars(lease.attempt))
        assert task.own_attempt.store.timeout == TIMEOUT
        assert runs(settings.sweeps, "mine")
    assert read_claim(settings.sweep("mine")).ended


def test_telling_mlflow_of_a_sweep(timeouts, tracking_uri, monkeypatch, tmp_path):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking_uri)
    settings = Settings.from_environment()
    trial, stored = Trial(TrainConfig()), StoredSweep(settings.sweep("mine"))
    history = stored.history(trial)
    put_json(stored.trial_store(trial), "config.json", trial.config.to_dict())
    history.write(Record(1, TRAIN, {}, f"{stored.trial_store(trial).place}/train/checkpoint_001"))
    assert existing(history.records(), history.store.timeout) == set()
    with pytest.raises(ValueError, match="there is no sweep 'mine'"):
        sync_sweep(settings.sweep("mine"), Tracker.of(settings), pytest.fail)


def test_data_list_and_check(timeouts, odd_s3):
    for arguments in (["list", "s3://bucket/set"], ["check", "s3://bucket/set"]):
        CliRunner().invoke(data, arguments)
    assert len(timeouts) >= 2


def test_a_lease_on_a_server_without_conditional_writes_is_refused_at_once(odd_s3):
    odd_s3.conditional = False
    settings = Settings.from_environment({"R2D2_HOME": "s3://bucket/home"})
    started = time.monotonic()
    with pytest.raises(PlaceError, match="has no conditional writes"), hold(settings.sweep("mine")):
        pytest.fail("nobody holds it")
    assert time.monotonic() - started < 20
