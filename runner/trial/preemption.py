"""Notices that a node will be taken away, so that the training saves a checkpoint and goes on elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable

import ray
import ray.train
import ray.train.collective

from runner.cluster.ray_internals import is_draining

# So often, about, is asked for a notice.
INTERVAL_S = 2.0


class Preempted(Exception):  # noqa: N818 - it says what happened
    """Says that a node of this training will be taken away; there is a checkpoint of the last step."""


class Notice:
    """Asks now and then whether a node of this training, or that of its driver, will be taken away.

    A sweep that is asked to stop gives notice too.

    To ask, all workers exchange messages, so all of them ask after the same steps. Rank 0 says each time how
    many steps lie before the next question.
    """

    def __init__(self, driver_node: str, asked_to_stop: Callable[[], bool] = bool) -> None:
        """Prepares the notice.

        Args:
            driver_node: Ray's id of the node of the trial's driver, which watches over the workers.
            asked_to_stop: whether the sweep was; rank 0 is asked.
        """
        self._driver_node = driver_node
        self._asked_to_stop = asked_to_stop
        self._steps, self._next = 0, 1
        self._asked = (0, time.monotonic())

    def given(self) -> bool:
        """Says whether there was a notice; all workers call it after every step and get the same answer."""
        self._steps += 1
        if self._steps < self._next:
            return False
        workers = ray.train.get_preemption_info() is not None
        steps, when = self._asked
        self._asked = (self._steps, time.monotonic())
        pace = (self._asked[1] - when) / (self._steps - steps)
        following = self._steps + max(1, int(INTERVAL_S / pace))
        said = (following, self._asked_to_stop() or is_draining(self._driver_node))
        self._next, other = ray.train.collective.broadcast_from_rank_zero(said)
        return workers or other


def this_node() -> str:
    """Returns Ray's id of the node of this process."""
    return str(ray.get_runtime_context().get_node_id())
