"""Computes the learning rate from the step's number: without state, so resuming needs none."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from r2d2.settings import setting

CONSTANT = "constant"

# The share of the way down that is left, by the share of the steps after the warm-up that is done.
_DECAYS: dict[str, Callable[[float], float]] = {
    "linear": lambda done: 1.0 - done,
    "cosine": lambda done: (1.0 + math.cos(math.pi * done)) / 2,
}
SCHEDULES = (CONSTANT, *_DECAYS)


@dataclass(frozen=True)
class OptimiserConfig:
    """An OptimiserConfig sets Adam and the course of its learning rate."""

    learning_rate: float = setting(1e-4, "step size, the largest of the schedule", low=0)
    weight_decay: float = setting(5e-4, "weight of the L2 penalty", low=0)
    schedule: str = setting("constant", "course of the learning rate after the warm-up")
    warmup_steps: int = setting(0, "first steps, over which the learning rate climbs from 0", low=0)
    final_share: float = setting(
        0.05, "last learning rate of a linear or cosine schedule, as a share of the largest", low=0, high=1
    )


def learning_rate(config: OptimiserConfig, step: int, total_steps: int) -> float:
    """Returns the learning rate of one step.

    The first `warmup_steps` steps climb in equal parts to `learning_rate`; the first step after them has it
    too; from there a decay leads to `final_share` of it at the last step of the training. A training of fewer
    steps than the warm-up only climbs.

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
