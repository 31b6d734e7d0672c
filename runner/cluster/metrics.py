"""Exports figures of a running sweep as Ray metrics, which every node offers to Prometheus.

Ray puts `ray_` before each name, and `_total` behind that of a counter. It forgets a gauge that is not set
again within two of its reports, 20 s by default, so those of a trial end with the trial. This bounds the
series: by the trials that run at a time, the variants, and the kinds of states and faults.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ray.util.metrics import Counter, Gauge

SPEED, WAITING = "r2d2_pairs_per_second", "r2d2_evaluations_waiting"
TRIALS, SCORE = "r2d2_trials", "r2d2_score"
FAULTS = "r2d2_faults"
# Tag of every figure beside `sweep`, and what the figure is; of WAITING there is one figure per sweep.
GAUGES = {
    SPEED: ("trial", "Pairs per second of each training in its last epoch."),
    WAITING: ("", "Evaluations of trained checkpoints that wait or run."),
    TRIALS: ("state", "Trials that wait, train, finished, failed or were stopped."),
    SCORE: (
        "variant",
        "Mean of the last scores of each variant's trials, by the metric that decides the sweep.",
    ),
}
_FAULTS = ("kind", "Incidents of trainings, lost drivers and failed trials since the driver started.")

# Twice in the 10 s after which Ray reports by default.
EVERY_S = 5.0

Figures = Mapping[str, Mapping[str, float]]


class SweepMetrics:
    """A SweepMetrics exports the figures of one sweep, from its driver."""

    def __init__(self, sweep: str) -> None:
        """Declares the metrics; Ray must be running.

        Args:
            sweep: its name, a tag of every figure.
        """
        from ray.util.metrics import Counter, Gauge

        self._sweep, self._next = sweep, 0.0
        self._gauges: dict[str, Gauge] = {
            name: Gauge(name, text, tuple(filter(None, ("sweep", tag))))
            for name, (tag, text) in GAUGES.items()
        }
        self._faults: Counter = Counter(FAULTS, _FAULTS[1], ("sweep", _FAULTS[0]))

    def refresh(self, figures: Callable[[], Figures]) -> None:
        """Sets the gauges, if that was not done in the last seconds.

        Args:
            figures: returns the values of each of `GAUGES`, by the value of its tag; called if they are due.
        """
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + EVERY_S
        for name, values in figures().items():
            tag = GAUGES[name][0]
            for value, number in values.items():
                if math.isfinite(number):
                    self._gauges[name].set(number, {"sweep": self._sweep} | ({tag: value} if tag else {}))

    def count_fault(self, kind: str) -> None:
        """Counts an incident of a trial, the loss of its driver or its failure."""
        self._faults.inc(tags={"sweep": self._sweep, _FAULTS[0]: kind})
