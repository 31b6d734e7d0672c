"""Slots: how many trials of a sweep train at a time.

More trials are started than may train, so that their drivers are up when their turn comes. A trial takes a
slot before it asks for workers and leaves it after its last step. It keeps the slot while its workers, or its
driver, are lost and started again.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runner.scoring import TrialContext


class Slots:
    """An actor of Ray; trials are served in the order in which they came first."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._held: set[str] = set()
        self._waiting: dict[str, asyncio.Event] = {}

    async def take(self, key: str) -> None:
        """Returns once the trial has a slot; whoever has one already has it."""
        if key in self._held:
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

    def _hand_out(self) -> None:
        while self._waiting and len(self._held) < self._number:
            key = next(iter(self._waiting))
            self._held.add(key)
            self._waiting.pop(key).set()


def start_slots(number: int) -> Any:
    """The handle of the slots of a sweep; if their process is lost they are all free again."""
    import ray

    actor = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Slots)
    return actor.remote(number)


def take_slot(context: TrialContext, key: str) -> None:
    """Waits for a slot."""
    import ray

    if context.slots is not None:
        ray.get(context.slots.take.remote(key))


def leave_slot(context: TrialContext, key: str) -> None:
    """Leaves it, or the queue; whoever has none may leave, too."""
    if context.slots is not None:
        context.slots.leave.remote(key)
