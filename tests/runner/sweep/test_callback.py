"""What Tune says of a trial becomes what the sweep remembers of it."""

from types import SimpleNamespace

import pytest

from r2d2.config import TrainConfig
from runner.record.history import TRAIN, Record
from runner.record.incidents import ASKED_TO_STOP, LOST, record_incident
from runner.record.layout import reservation_name
from runner.record.sweep import StoredSweep
from runner.sweep.callback import SweepCallback
from runner.trial.driver import CONFIG_KEY
from search_spaces.sweep import Trial

TRIAL = Trial(TrainConfig(epochs=2))
ROLES = ("validation", "hpatches")


class Listener:
    """Stands for MLflow, the screen and the metrics: notes how trials ended, and faults."""

    def __init__(self):
        self.ends, self.said, self.faults = [], [], []

    def finish(self, trial, history, ending):
        self.ends.append((ending.status, ending.reason))

    def say(self, text):
        self.said.append(text)

    def record(self, trial, history):
        pass

    def count_fault(self, kind):
        self.faults.append(kind)

    def started(self, key, trial):
        pass

    def event(self, key, record):
        pass

    def ended(self, key, status, reason=None):
        pass


@pytest.fixture
def stored(tmp_path):
    return StoredSweep(tmp_path)


def complete(stored, stops: bool) -> list:
    listener = Listener()
    callback = SweepCallback(stored, listener, listener, ROLES, stops)
    callback.on_trial_complete(0, [], SimpleNamespace(config={CONFIG_KEY: TRIAL.config.to_dict()}))
    return listener.ends


def write(stored, *events):
    for epoch, kind in events:
        stored.history(TRIAL).write(Record(epoch, kind, {}, "uri"))


def test_a_trial_with_all_its_scores_is_finished(stored):
    write(stored, *((epoch, kind) for epoch in (1, 2) for kind in (TRAIN, *ROLES)))
    assert complete(stored, stops=True) == [("FINISHED", None)]
    assert stored.history(TRIAL).stopped_after is None


@pytest.mark.parametrize(
    "events",
    [
        # Stopped by the score of its first epoch; by the same while its last was trained; by the last score
        # on one benchmark before there was one on the other.
        [(1, TRAIN), (1, "validation"), (1, "hpatches")],
        [(1, TRAIN), (1, "validation"), (1, "hpatches"), (2, TRAIN)],
        [(1, TRAIN), (1, "validation"), (1, "hpatches"), (2, TRAIN), (2, "validation")],
    ],
)
def test_a_trial_that_lacks_a_score_was_stopped(stored, events):
    write(stored, *events)
    [(status, reason)] = complete(stored, stops=True)
    assert status == "KILLED"
    assert "stopped early by its score" in reason
    assert stored.history(TRIAL).stopped_after == events[-1][0]


def test_a_trial_that_failed_says_why_although_tune_saw_it_end(stored):
    write(stored, (1, TRAIN))
    stored.history(TRIAL).mark_failed("the loss is not finite; the batch was: a.jpg")
    assert complete(stored, stops=True) == [("FAILED", "the loss is not finite; the batch was: a.jpg")]
    assert stored.history(TRIAL).stopped_after is None


def test_each_incident_is_said_and_counted_once(stored):
    write(stored, (1, TRAIN))
    listener = Listener()
    callback = SweepCallback(stored, listener, listener, ROLES, stops=False, metrics=listener)
    tune_trial = SimpleNamespace(config={CONFIG_KEY: TRIAL.config.to_dict()})
    record_incident(stored.history(TRIAL), LOST, "a worker was lost")
    for _ in range(2):
        callback.on_trial_result(0, [], tune_trial, {"epoch": 1, "kind": TRAIN})
    record_incident(stored.history(TRIAL), LOST, "another one was lost")
    callback.on_trial_complete(0, [], tune_trial)
    assert [line.partition(": ")[2] for line in listener.said] == [
        "a worker was lost",
        "another one was lost",
    ]
    assert listener.faults == [LOST, LOST]


def test_lost_drivers_and_failures_are_counted_as_faults_and_a_request_to_stop_is_none(stored):
    listener = Listener()
    callback = SweepCallback(stored, listener, listener, ROLES, stops=False, metrics=listener)
    tune_trial = SimpleNamespace(config={CONFIG_KEY: TRIAL.config.to_dict()})
    callback.on_trial_recover(0, [], tune_trial)
    record_incident(stored.history(TRIAL), ASKED_TO_STOP, "the sweep was asked to stop")
    stored.history(TRIAL).mark_failed("its disk is full")
    callback.on_trial_complete(0, [], tune_trial)
    assert listener.faults == ["driver", "failed"]


def test_what_befell_a_trial_before_this_attempt_is_not_told_again(stored):
    write(stored, (1, TRAIN))
    record_incident(stored.history(TRIAL), ASKED_TO_STOP, "the sweep was asked to stop")
    listener = Listener()
    callback = SweepCallback(stored, listener, listener, ROLES, stops=False)
    tune_trial = SimpleNamespace(config={CONFIG_KEY: TRIAL.config.to_dict()})
    callback.on_trial_start(0, [], tune_trial)
    record_incident(stored.history(TRIAL), LOST, "a worker was lost")
    callback.on_trial_complete(0, [], tune_trial)
    assert [line.partition(": ")[2] for line in listener.said] == ["a worker was lost"]


@pytest.mark.parametrize(
    ("keys", "interrupted"), [([TRIAL.key], False), ([TRIAL.key, "never-started"], True)]
)
def test_a_trial_that_was_never_started_means_an_interruption(stored, keys, interrupted):
    write(stored, *((epoch, kind) for epoch in (1, 2) for kind in (TRAIN, *ROLES)))
    listener = Listener()
    callback = SweepCallback(stored, listener, listener, ROLES, stops=False)
    callback.on_trial_complete(0, [], SimpleNamespace(config={CONFIG_KEY: TRIAL.config.to_dict()}))
    callback.close(keys)
    assert callback.interrupted is interrupted


def test_a_stop_waits_for_trials_whose_workers_have_begun_and_have_not_stopped(stored):
    callback = SweepCallback(stored, Listener(), Listener(), ROLES, False)
    callback.on_trial_start(0, [], SimpleNamespace(config={CONFIG_KEY: TRIAL.config.to_dict()}))
    assert callback.going() == []
    stored.trial_store(TRIAL).write(reservation_name(1), b"of an earlier attempt")
    assert callback.going() == []
    stored.trial_store(TRIAL).write(reservation_name(0), b"00")
    assert callback.going() == [TRIAL.key]
    record_incident(stored.history(TRIAL), ASKED_TO_STOP, "stopped on request")
    assert callback.going() == []
