"""So many trials train at a time, in the order in which they came."""

import asyncio
from contextlib import suppress

import pytest

from runner.slots import Slots


@pytest.fixture
def slots():
    return Slots(2)


def run(*steps):
    """Runs steps such as ("take", "a") in one loop; returns the keys that waited for nothing more."""

    async def play(slots):
        tasks = {}
        for action, key in steps:
            if action == "take":
                tasks[key] = asyncio.ensure_future(slots.take(key))
            else:
                await slots.leave(key)
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        served = [key for key, task in tasks.items() if task.done()]
        for task in tasks.values():
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        return served

    return lambda slots: asyncio.run(play(slots))


def takes(keys):
    return [("take", key) for key in keys]


def test_no_more_than_its_number_have_a_slot(slots):
    assert run(*takes("abcd"))(slots) == ["a", "b"]


def test_who_leaves_makes_room_for_the_first_that_waits(slots):
    assert run(*takes("abcd"), ("leave", "b"))(slots) == ["a", "b", "c"]


def test_a_trial_whose_driver_starts_again_has_its_slot_still(slots):
    assert run(*takes("ab"), *takes("a"), *takes("c"))(slots) == ["a", "b"]
    assert slots._held == {"a", "b"}


def test_who_leaves_the_queue_is_passed_over(slots):
    played = run(*takes("abcd"), ("leave", "c"), ("leave", "a"))
    assert "d" in played(slots)
    assert slots._held == {"b", "d"}


def test_leaving_twice_frees_one_slot(slots):
    assert run(*takes("abcde"), ("leave", "a"), ("leave", "a"))(slots) == ["a", "b", "c"]


def test_two_drivers_of_a_trial_that_waits_are_both_served(slots):
    async def play():
        await slots.take("a")
        await slots.take("b")
        old, new = (asyncio.ensure_future(slots.take("c")) for _ in range(2))
        await asyncio.sleep(0)
        await slots.leave("a")
        await asyncio.wait_for(asyncio.gather(old, new), 5)

    asyncio.run(play())
    assert slots._held == {"b", "c"}
