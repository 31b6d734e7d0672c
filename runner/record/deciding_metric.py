"""Finds the metric that decides: its benchmark, and whether the smallest or the largest figure is best.

`evaluation/report/build.py` sorts the rows of a table by it.
"""

from __future__ import annotations

from dataclasses import dataclass

from runner.record.definition import SweepDefinition
from runner.record.history import TRAIN

USUAL = "mma_3px"


@dataclass(frozen=True)
class Ordering:
    """An Ordering names the metric that orders the rows of a comparison.

    Attributes:
        role: of the benchmark whose scores are compared; empty if it is not known.
        metric: with its role if that is known, e.g. `hpatches/mma_3px`, `train/loss_total`.
        mode: `min` or `max`.
    """

    role: str
    metric: str
    mode: str


def mode_of(metric: str, definition: SweepDefinition | None = None) -> str:
    """Returns `min` or `max`: as the sweep says, else `min` for a loss or an error."""
    if definition is not None and metric == definition.metric:
        return definition.mode
    name = metric.rpartition("/")[2]
    return "min" if "loss" in name or "error" in name else "max"


def find_ordering(metric: str | None, role: str = "", definition: SweepDefinition | None = None) -> Ordering:
    """Finds the ordering from the metric and the benchmark that the user asked for.

    Args:
        metric: with or without its role; None: what decides the sweep.
        role: of the benchmark; empty: that of the metric, or of the sweep.
        definition: the sweep's; None outside of one.

    Raises:
        ValueError: if the metric belongs to another benchmark, or the sweep is not scored on it.
    """
    asked = metric or (definition.metric if definition else USUAL)
    of_metric, _, name = asked.rpartition("/")
    if metric is not None and role and of_metric not in ("", TRAIN, role):
        raise ValueError(f"--metric {metric} is a score on '{of_metric}', but --role is '{role}'")
    benchmark = role or ("" if of_metric == TRAIN else of_metric) or (definition.role if definition else "")
    if definition is not None and benchmark and benchmark not in definition.benchmarks:
        scored = ", ".join(definition.benchmarks) or "nothing"
        raise ValueError(f"sweep '{definition.name}' has no {benchmark}/{name}: it is scored on {scored}")
    full = asked if of_metric == TRAIN else f"{benchmark}/{name}".lstrip("/")
    return Ordering(benchmark, full, mode_of(full, definition))
