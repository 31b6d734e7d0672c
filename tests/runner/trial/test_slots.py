"""So many trials train at a time, in the order in which they came."""

import asyncio
from contextlib import suppress
from dataclasses import replace
from types import SimpleNamespace

import pytest
import ray

import runner.trial.driver
from r2d2.config import TrainConfig
from r2d2.storage.open import open_store
from runner.cluster.resources import WorkerResources
from runner.record.history import TRAIN, History, Record
from runner.trial.scoring import TrialContext
from runner.trial.slots import Slots, start_slots
from runner.trial.turn import Turn
from search_spaces.sweep import Trial


@pytest.fixture
def slots():
    return Slots(2)


def play(slots, *steps):
    """Plays steps such as ("take", "a"), in one loop; returns the keys that wait for nothing more."""

    async def run():
        tasks = {}
        for action, key in steps:
            if action == "take":
                tasks[key] = asyncio.ensure_future(slots.take(key))
            else:
                await getattr(slots, action)(key)
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        served = [key for key, task in tasks.items() if task.done()]
        for task in tasks.values():
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        return served

    return asyncio.run(run())


def takes(keys):
    return [("take", key) for key in keys]


def test_they_lie_on_the_node_of_the_driver_and_nowhere_else(monkeypatch):
    asked = {}
    actor = SimpleNamespace(
        options=lambda **how: asked.update(how) or SimpleNamespace(remote=lambda _: "handle")
    )
    monkeypatch.setattr(ray, "remote", lambda _: actor)
    monkeypatch.setattr(ray, "get_runtime_context", lambda: SimpleNamespace(get_node_id=lambda: "ab" * 28))
    assert start_slots(2) == "handle"
    where = asked["scheduling_strategy"]
    assert (where.node_id, where.soft) == ("ab" * 28, False)


def test_no_more_than_its_number_have_a_slot(slots):
    assert play(slots, *takes("abcd")) == ["a", "b"]


def test_who_leaves_makes_room_for_the_first_that_waits(slots):
    assert play(slots, *takes("abcd"), ("leave", "b")) == ["a", "b", "c"]


def test_a_trial_whose_driver_starts_again_has_its_slot_still(slots):
    assert play(slots, *takes("ab"), *takes("a"), *takes("c")) == ["a", "b"]
    assert slots._held == {"a", "b"}


def test_who_leaves_the_queue_is_passed_over(slots):
    assert "d" in play(slots, *takes("abcd"), ("leave", "c"), ("leave", "a"))
    assert slots._held == {"b", "d"}


def test_leaving_twice_frees_one_slot(slots):
    assert play(slots, *takes("abcde"), ("leave", "a"), ("leave", "a")) == ["a", "b", "c"]


def test_a_trial_that_has_ended_gets_no_slot_however_late_it_asks(slots):
    assert play(slots, *takes("a"), ("end", "a"), *takes("a"), *takes("bcd")) == ["a", "b", "c"]
    assert slots._held == {"b", "c"}


def test_two_drivers_of_a_trial_that_waits_are_both_served(slots):
    async def run():
        await slots.take("a")
        await slots.take("b")
        old, new = (asyncio.ensure_future(slots.take("c")) for _ in range(2))
        await asyncio.sleep(0)
        await slots.leave("a")
        await asyncio.wait_for(asyncio.gather(old, new), 5)

    asyncio.run(run())
    assert slots._held == {"b", "c"}


class Handle:
    """Stands for the actor: notes what it was asked."""

    def __init__(self):
        self.asked = []

    def __getattr__(self, name):
        return SimpleNamespace(remote=lambda key: self.asked.append((name, key)))


@pytest.fixture
def context(monkeypatch, tmp_path):
    monkeypatch.setattr(ray, "get", lambda reference: reference)
    monkeypatch.setattr(runner.trial.driver.tune, "report", lambda _: None)
    return TrialContext(
        str(tmp_path), None, (), {}, WorkerResources(), "validation/mma_3px", "max", slots=Handle()
    )


def test_workers_are_started_when_it_is_the_trials_turn(context):
    Turn(context.slots, "a").before_worker_group_start(None)
    assert context.slots.asked == [("take", "a")]


@pytest.mark.parametrize("known", [0, 1, 2])
def test_the_slot_is_left_after_the_last_step_and_not_for_what_is_told_again(
    context, monkeypatch, tmp_path, known
):
    config = TrainConfig(epochs=2)
    history = History(tmp_path / "history")

    def write(epochs):
        for epoch in epochs:
            history.write(Record(epoch, TRAIN, {}, "uri"))

    write(range(1, known + 1))
    # Roles that are never scored: the trial has not ended, whatever was trained.
    context = replace(context, roles=("validation",))
    monkeypatch.setattr(runner.trial.driver, "_train", lambda *_: write(range(known + 1, 3)))
    runner.trial.driver._run(config, open_store(tmp_path), history, context)
    assert context.slots.asked == ([("leave", Trial(config).key)] if known < 2 else [])
