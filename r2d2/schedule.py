"""The learning rate as a function of the step's number: without state, so resuming needs none."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from r2d2.config import OptimiserConfig

CONSTANT = "constant"

# The share of the way down that is left, by the share of the steps after the warm-up that is done.
_DECAYS: dict[str, Callable[[float], float]] = {
    "linear": lambda done: 1.0 - done,
    "cosine": lambda done: (1.0 + math.cos(math.pi * done)) / 2,
}
SCHEDULES = (CONSTANT, *_DECAYS)


def learning_rate(config: OptimiserConfig, step: int, total_steps: int) -> float:
    """The learning rate of one step.

    The first `warmup_steps` steps climb in equal parts to `learning_rate`; the first step after them has it
    too; from there a decay leads to `final_share` of it at the last step of the training. A training of
    fewer steps than the warm-up only climbs.

    Args:
        config: peak, schedule, warm-up and final share.
        step: number of the step in the whole training, from 0.
        total_steps: of the whole training, at least 1; all workers take the same steps.
    """
    assert 0 <= step < total_steps
    peak = config.learning_rate
    if step < config.warmup_steps:
        return peak * (step + 1) / config.warmup_steps
    if config.schedule == CONSTANT:
        return peak
    done = (step - config.warmup_steps) / max(1, total_steps - 1 - config.warmup_steps)
    left = _DECAYS[config.schedule](done)
    return peak * (config.final_share + (1 - config.final_share) * left)
