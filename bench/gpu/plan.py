"""Lists the checks of the two calls, each call's by worth: what comes last is left out if time is short."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from bench.gpu.loading import loader, together
from bench.gpu.machine import machine
from bench.gpu.parity import parity
from bench.gpu.processes import fork, gpu_tests, workers
from bench.gpu.scoring import checkpoint_score, extraction, matching
from bench.gpu.setup import Figure, Setup
from bench.gpu.states import determinism, kept_memory, memory_errors
from bench.gpu.steps import compiled_step, step, step_profile
from bench.gpu.training import training


@dataclass(frozen=True)
class Check:
    """A Check is one thing that is looked at.

    Attributes:
        call: 1 or 2, in which it comes.
        seconds: it may take on an H200, by estimate; it is begun if as many are left, and ended after twice
            as many.
        figures: yields what it finds, each figure as soon as it is known.
    """

    call: int
    seconds: float
    figures: Callable[[Setup], Iterator[Figure]]

    @property
    def name(self) -> str:
        """Returns its name, that of its function."""
        return self.figures.__name__


CHECKS = (
    Check(1, 10, machine),
    Check(1, 30, parity),
    Check(1, 50, step),
    Check(1, 25, extraction),
    Check(1, 5, matching),
    Check(1, 30, checkpoint_score),
    Check(1, 60, together),
    Check(1, 60, loader),
    Check(1, 10, step_profile),
    Check(1, 70, compiled_step),
    Check(1, 20, gpu_tests),
    Check(2, 285, training),
    Check(2, 20, determinism),
    Check(2, 15, memory_errors),
    Check(2, 5, kept_memory),
    Check(2, 10, fork),
    Check(2, 40, workers),
)
