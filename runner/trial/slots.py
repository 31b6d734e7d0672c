"""Slots: how many trials of a sweep train at a time.

More trials are started than may train, so that their drivers are up when their turn comes. A trial takes a
slot before it asks for workers (`runner.trial.turn`) and leaves it after its last step. It keeps the slot
while its workers, or its driver, are lost and started again.
"""

from __future__ import annotations

import asyncio
from typing import Any


class Slots:
    """An actor of Ray; trials are served in the order in which they came first."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._held: set[str] = set()
        self._waiting: dict[str, asyncio.Event] = {}
        self._ended: set[str] = set()

    async def take(self, key: str) -> None:
        """Returns once the trial has a slot; one that has ended needs none."""
        if key in self._held or key in self._ended:
            return
        turn = self._waiting.setdefault(key, asyncio.Event())
        self._hand_out()
        await turn.wait()

    async def leave(self, key: str) -> None:
        """The trial needs no slot, or no longer waits for one."""
        self._held.discard(key)
        gone = self._waiting.pop(key, None)
        if gone is not None:
            gone.set()
        self._hand_out()

    async def end(self, key: str) -> None:
        """The trial is over: whatever of it still comes gets no slot."""
        self._ended.add(key)
        await self.leave(key)

    def _hand_out(self) -> None:
        while self._waiting and len(self._held) < self._number:
            key = next(iter(self._waiting))
            self._held.add(key)
            self._waiting.pop(key).set()


def start_slots(number: int) -> Any:
    """The handle of the slots of a sweep, on the node of its driver and nowhere else.

    All slots are free again if their process is lost: a trial that waits might take that of one whose workers
    are being started again, and wait for room that there is not. Another node may go at any time.
    """
    import ray

    from runner.cluster.placement import on_this_node

    actor: Any = ray.remote(Slots)
    lasting = {"num_cpus": 0, "max_restarts": -1, "max_task_retries": -1}
    return actor.options(**lasting, scheduling_strategy=on_this_node()).remote(number)


def take_slot(slots: Any | None, key: str) -> None:
    """Waits for a slot; without `slots` there is nothing to wait for."""
    import ray

    if slots is not None:
        ray.get(slots.take.remote(key))


def leave_slot(slots: Any | None, key: str) -> None:
    """Leaves it, or the queue; whoever has none may leave, too."""
    if slots is not None:
        slots.leave.remote(key)


def end_slot(slots: Any | None, key: str) -> None:
    """The trial is over."""
    if slots is not None:
        slots.end.remote(key)
