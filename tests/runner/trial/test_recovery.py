"""Why a training stopped decides whether it goes on, how, and how often; all of it is written down."""

import errno
import os
import pickle

import pytest
from ray._private.label_utils import validate_label_selector
from ray.exceptions import ActorDiedError, RayActorError
from ray.train import ControllerError, WorkerGroupError
from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError, WorkerHealthCheckTimeoutError

from r2d2.storage.full_disk import DiskFull
from r2d2.training.out_of_memory import OutOfMemory
from r2d2.training.step import NonFiniteLoss
from runner.record.attempt import HaltedError
from runner.record.history import TRAIN, History, Record
from runner.record.incidents import DISK, HANGING, LOST, MEMORY, PREEMPTED, incidents, record_incident
from runner.trial import full_disk, recovery
from runner.trial.full_disk import avoiding, room_beside
from runner.trial.preemption import Preempted
from runner.trial.recovery import NodeLeaves, main_fault, train_to_the_end

MEMORY_FIGURES = "8 pairs do not fit into the memory of cpu (4.0 GiB, 0.1 free)"


class Fits:
    """A training that stops for one reason after the other, then ends well."""

    def __init__(self, *faults, history=None):
        self.faults, self.pieces, self.avoided = list(faults), [], []
        self.history = history

    def __call__(self, pieces, full):
        self.pieces.append(pieces)
        self.avoided.append(full)
        if self.faults:
            fault = self.faults.pop(0)
            if isinstance(fault, int):
                self.history.write(Record(fault, TRAIN, {}, "uri"))
                fault = ActorDiedError()
            if isinstance(fault, RayActorError):
                fault = WorkerHealthCheckFailedError("no answer", fault)
            raise WorkerGroupError("a worker stopped", {0: RuntimeError("connection closed"), 1: fault})


def train(fits, history, pairs_per_worker, max_restarts, elsewhere=lambda full: False):
    train_to_the_end(fits, history, pairs_per_worker, max_restarts, elsewhere)


@pytest.fixture
def history(tmp_path):
    return History(tmp_path / "history")


def kinds(history):
    return [incident.kind for incident in incidents(history)]


def test_a_lost_worker_is_replaced_so_often_and_no_more(history):
    fits = Fits(ActorDiedError(), ActorDiedError())
    train(fits, history, 8, max_restarts=2)
    assert fits.pieces == [1, 1, 1]
    assert kinds(history) == [LOST, LOST]
    with pytest.raises(RuntimeError, match=r"training failed: .*actor"):
        train(Fits(*[ActorDiedError()] * 3), history, 8, max_restarts=2)


def test_a_training_that_was_asked_to_stop_has_not_failed(history):
    with pytest.raises(RuntimeError, match=r"^the sweep was asked to stop; epoch 1 is kept"):
        train(Fits(HaltedError("the sweep was asked to stop; epoch 1 is kept")), history, 8, max_restarts=2)


def test_losses_are_counted_anew_after_each_trained_epoch(history):
    fits = Fits(1, 2, 3, history=history)
    train(fits, history, 8, max_restarts=1)
    assert len(fits.pieces) == 4


def test_a_loss_that_is_not_finite_fails_at_once_with_its_pairs(history):
    with pytest.raises(RuntimeError, match=r"the batch was: a\.jpg, b\.jpg"):
        train(Fits(NonFiniteLoss("NaN", ("a.jpg", "b.jpg"))), history, 8, max_restarts=2)
    assert kinds(history) == []


def test_too_little_memory_halves_the_pairs_once_and_says_what_that_means(history):
    fits = Fits(OutOfMemory(MEMORY_FIGURES))
    train(fits, history, 8, max_restarts=0)
    assert fits.pieces == [1, 2]
    [incident] = incidents(history)
    assert incident.kind == MEMORY
    assert incident.spoils
    assert incident.text.startswith(MEMORY_FIGURES)
    assert "half of the 8 pairs at a time" in incident.text
    # A later attempt knows it, and a second time is one too many.
    with pytest.raises(RuntimeError, match=r"training failed: .*0\.1 free"):
        train(Fits(OutOfMemory(MEMORY_FIGURES)), history, 8, max_restarts=2)


def test_a_single_pair_cannot_be_halved(history):
    with pytest.raises(RuntimeError, match=r"0\.1 free"):
        train(Fits(OutOfMemory(MEMORY_FIGURES)), history, 1, max_restarts=2)


def test_a_node_whose_disk_is_full_is_avoided_while_there_is_another(history):
    def elsewhere(full):
        return len(full) < 3

    fits = Fits(DiskFull("no space", "a"), DiskFull("no space", "b"))
    train(fits, history, 8, 2, elsewhere)
    assert fits.avoided == [set(), {"a"}, {"a", "b"}]
    assert kinds(history) == [DISK, DISK]
    assert not any(incident.spoils for incident in incidents(history))
    with pytest.raises(RuntimeError, match="training failed: no space"):
        train(Fits(*(DiskFull("no space", node) for node in "abc")), history, 8, 9, elsewhere)


def test_a_full_disk_is_told_apart_and_travels_between_processes(monkeypatch):
    monkeypatch.setattr(full_disk, "this_node", lambda: "here")
    with pytest.raises(DiskFull, match="No space left on device") as found, full_disk.naming_node():
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.raises(DiskFull), full_disk.naming_node():
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))
    copied = pickle.loads(pickle.dumps(found.value))
    assert (str(copied), copied.node) == (str(found.value), "here")
    with pytest.raises(PermissionError), full_disk.naming_node():
        raise PermissionError(errno.EACCES, "not yours")


def test_room_is_that_of_nodes_that_live_and_have_what_a_worker_asks_for(monkeypatch):
    def node(name, *, alive=True, **resources):
        return {"NodeID": name, "Alive": alive, "Resources": resources}

    nodes = [
        node("head", memory=1.0),
        node("a", CPU=4.0, GPU=1.0),
        node("b", CPU=2.0),
        node("gone", alive=False, CPU=8.0, GPU=8.0),
    ]
    monkeypatch.setattr(full_disk.ray, "nodes", lambda: nodes)
    assert room_beside(frozenset(), {"CPU": 1}) == 6
    assert room_beside(frozenset({"a"}), {"CPU": 1}) == 2
    assert room_beside(frozenset(), {"CPU": 1, "GPU": 0.5}) == 2
    assert room_beside(frozenset({"a"}), {"CPU": 1, "GPU": 0.5}) == 0
    assert room_beside(frozenset(), {"CPU": 3}) == 1


def test_ray_takes_the_selector_of_nodes_that_are_not_full():
    selector = avoiding(frozenset({"a" * 56, "b" * 56}))
    assert selector is not None
    assert validate_label_selector(selector) is None
    assert validate_label_selector({"ray.io/node-id": "!in(a,b"}) is not None
    assert avoiding(frozenset()) is None


@pytest.mark.parametrize("leaves", [False, True])
def test_notices_are_not_counted_and_a_driver_whose_node_leaves_goes_too(history, monkeypatch, leaves):
    monkeypatch.setattr(recovery, "this_node", lambda: "here")
    monkeypatch.setattr(recovery, "node_leaves", lambda node: leaves and node == "here")
    fits = Fits(*[Preempted("a node will be taken away; kept up to step 5 of 9")] * 3)
    if leaves:
        with pytest.raises(NodeLeaves):
            train(fits, history, 8, max_restarts=0)
        assert kinds(history) == [PREEMPTED]
        return
    train(fits, history, 8, max_restarts=0)
    assert kinds(history) == [PREEMPTED] * 3


def test_a_worker_lost_because_its_node_was_taken_away_does_not_count(history):
    fits = Fits(*[RayActorError(error_msg="gone", preempted=True)] * 3)
    train(fits, history, 8, max_restarts=0)
    assert len(fits.pieces) == 4


def test_a_worker_without_an_answer_hangs_and_one_that_said_so_itself_is_told_once(history):
    train(Fits(WorkerHealthCheckTimeoutError("no answer")), history, 8, max_restarts=1)
    assert kinds(history) == [HANGING]

    class Hangs(Fits):
        def __call__(self, pieces, full):
            if self.faults:
                record_incident(history, HANGING, "worker 0 gave no sign of life")
            super().__call__(pieces, full)

    train(Hangs(ActorDiedError()), history, 8, max_restarts=1)
    assert kinds(history) == [HANGING, HANGING]


def test_a_worker_that_ray_train_cannot_reach_to_end_it_is_lost_too(history):
    faults = [ControllerError(RayActorError(error_msg="unavailable"))]

    def fit(pieces, full):
        if faults:
            raise faults.pop()

    train(fit, history, 8, max_restarts=1)
    assert kinds(history) == [LOST]
    with pytest.raises(ControllerError):
        train(Raises(ControllerError(RuntimeError("a bug"))), history, 8, max_restarts=1)


class Raises:
    def __init__(self, error):
        self.error = error

    def __call__(self, pieces, full):
        raise self.error


def test_the_fault_of_a_group_is_the_one_the_others_follow():
    followed = RuntimeError("connection closed by peer")
    assert main_fault([followed, ActorDiedError()]).__class__ is ActorDiedError
    assert isinstance(main_fault([ActorDiedError(), followed, OutOfMemory("x")]), OutOfMemory)
    assert main_fault([followed]) is followed


def test_incidents_come_in_order_and_only_memory_spoils_figures(history):
    for kind in (LOST, MEMORY, PREEMPTED):
        record_incident(history, kind, f"it was {kind}")
    assert kinds(history) == [LOST, MEMORY, PREEMPTED]
    assert [i.spoils for i in incidents(history)] == [False, True, False]
