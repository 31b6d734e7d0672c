"""Why a training stopped decides whether it goes on, how, and how often; all of it is written down."""

import pytest
from ray.exceptions import ActorDiedError, RayActorError
from ray.train import ControllerError, WorkerGroupError

from r2d2.storage.errors import DiskFull
from r2d2.training.device import OutOfMemory
from r2d2.training.step import NonFiniteLoss
from runner.cluster.ray_internals import NoAnswer, WorkerHealthCheckFailedError
from runner.record.attempt import HaltedError
from runner.record.history import TRAIN, History, Record
from runner.record.incidents import HANGING, LOST, PREEMPTED, incidents, record_incident
from runner.trial import recovery
from runner.trial.preemption import Preempted
from runner.trial.recovery import NodeLeaves, main_fault, train_to_the_end


class Fits:
    """A training that stops for one reason after the other, then ends well."""

    def __init__(self, *faults, history=None):
        self.faults, self.times, self.history = list(faults), 0, history

    def __call__(self):
        self.times += 1
        if self.faults:
            fault = self.faults.pop(0)
            if isinstance(fault, int):
                self.history.write(Record(fault, TRAIN, {}, "uri"))
                fault = ActorDiedError()
            if isinstance(fault, RayActorError):
                fault = WorkerHealthCheckFailedError("no answer", fault)
            raise WorkerGroupError("a worker stopped", {0: RuntimeError("connection closed"), 1: fault})


@pytest.fixture
def history(tmp_path):
    return History(tmp_path / "history")


def kinds(history):
    return [incident.kind for incident in incidents(history)]


def test_a_lost_worker_is_replaced_so_often_and_no_more(history):
    fits = Fits(ActorDiedError(), ActorDiedError())
    train_to_the_end(fits, history, max_restarts=2)
    assert fits.times == 3
    assert kinds(history) == [LOST, LOST]
    with pytest.raises(RuntimeError, match=r"training failed: .*actor"):
        train_to_the_end(Fits(*[ActorDiedError()] * 3), history, max_restarts=2)


def test_a_training_that_was_asked_to_stop_has_not_failed(history):
    with pytest.raises(RuntimeError, match=r"^the sweep was asked to stop; epoch 1 is kept"):
        train_to_the_end(
            Fits(HaltedError("the sweep was asked to stop; epoch 1 is kept")), history, max_restarts=2
        )


def test_losses_are_counted_anew_after_each_trained_epoch(history):
    fits = Fits(1, 2, 3, history=history)
    train_to_the_end(fits, history, max_restarts=1)
    assert fits.times == 4


def test_a_loss_that_is_not_finite_fails_at_once_with_its_pairs(history):
    with pytest.raises(RuntimeError, match=r"the batch was: a\.jpg, b\.jpg"):
        train_to_the_end(Fits(NonFiniteLoss("NaN", ("a.jpg", "b.jpg"))), history, max_restarts=2)
    assert kinds(history) == []


@pytest.mark.parametrize(
    "fault",
    [
        OutOfMemory("8 pairs of 192 x 192 px do not fit into the memory of cpu; lower pairs_per_worker"),
        DiskFull("a disk of the node 10.0.0.1 is full (/tmp/x: No space left on device)"),
    ],
)
def test_too_little_memory_and_a_full_disk_fail_at_once_with_their_sentence(history, fault):
    with pytest.raises(RuntimeError) as failed:
        train_to_the_end(Fits(fault), history, max_restarts=2)
    assert str(failed.value) == f"training failed: {fault}"
    assert kinds(history) == []
    # A later attempt goes on.
    train_to_the_end(Fits(), history, max_restarts=2)


@pytest.mark.parametrize("leaves", [False, True])
def test_notices_are_not_counted_and_a_driver_whose_node_leaves_goes_too(history, monkeypatch, leaves):
    monkeypatch.setattr(recovery, "this_node", lambda: "here")
    monkeypatch.setattr(recovery, "is_draining", lambda node: leaves and node == "here")
    fits = Fits(*[Preempted("a node will be taken away; kept up to step 5 of 9")] * 3)
    if leaves:
        with pytest.raises(NodeLeaves):
            train_to_the_end(fits, history, max_restarts=0)
        assert kinds(history) == [PREEMPTED]
        return
    train_to_the_end(fits, history, max_restarts=0)
    assert kinds(history) == [PREEMPTED] * 3


def test_a_worker_lost_because_its_node_was_taken_away_does_not_count(history):
    fits = Fits(*[RayActorError(error_msg="gone", preempted=True)] * 3)
    train_to_the_end(fits, history, max_restarts=0)
    assert fits.times == 4


def test_a_worker_without_an_answer_hangs_and_one_that_said_so_itself_is_told_once(history):
    train_to_the_end(Fits(NoAnswer("no answer")), history, max_restarts=1)
    assert kinds(history) == [HANGING]

    class Hangs(Fits):
        def __call__(self):
            if self.faults:
                record_incident(history, HANGING, "worker 0 gave no sign of life")
            super().__call__()

    train_to_the_end(Hangs(ActorDiedError()), history, max_restarts=1)
    assert kinds(history) == [HANGING, HANGING]


def test_a_worker_that_ray_train_cannot_reach_to_end_it_is_lost_too(history):
    faults = [ControllerError(RayActorError(error_msg="unavailable"))]

    def fit():
        if faults:
            raise faults.pop()

    train_to_the_end(fit, history, max_restarts=1)
    assert kinds(history) == [LOST]
    with pytest.raises(ControllerError):
        train_to_the_end(Raises(ControllerError(RuntimeError("a bug"))), history, max_restarts=1)


class Raises:
    def __init__(self, error):
        self.error = error

    def __call__(self):
        raise self.error


def test_the_fault_of_a_group_is_the_one_the_others_follow():
    followed = RuntimeError("connection closed by peer")
    assert main_fault([followed, ActorDiedError()]).__class__ is ActorDiedError
    assert isinstance(main_fault([ActorDiedError(), followed, OutOfMemory("x")]), OutOfMemory)
    assert main_fault([followed]) is followed


def test_incidents_come_in_order(history):
    for kind in (LOST, HANGING, PREEMPTED):
        record_incident(history, kind, f"it was {kind}")
    assert kinds(history) == [LOST, HANGING, PREEMPTED]
