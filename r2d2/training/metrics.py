"""Reports what a step did, and makes the metrics of an epoch from such reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from r2d2.collapse import SIGNS
from r2d2.losses.config import TERMS

# The loss of an epoch, and its terms; the pairs that all workers trained on in a second.
LOSSES = tuple(f"train/loss_{name}" for name in ("total", *TERMS))
PAIRS_PER_SECOND = "train/pairs_per_second"

# The signs of a collapse are those of the last steps of an epoch, not of its whole history.
LAST_STEPS = 10

# Metrics that add up over parts; of all others the mean is taken.
_SUMMED = (
    "train/pairs",
    "train/invalid_pairs",
    "train/pairs_without_query",
    "train/refused_photos",
    PAIRS_PER_SECOND,
)


@dataclass(frozen=True)
class StepReport:
    """A StepReport says what one part of a step did.

    Attributes:
        step: number within the epoch, from 0.
        part: number of the part within the step, from 0.
        total: the loss before the step.
        terms: its terms "reliability", "similarity", "peakiness", before weighting.
        statistics: those of `losses.LossTerms` and of `collapse_signs.measure_signs`.
        pairs: number of pairs in the batch.
        invalid_pairs: how many of them have no pixel with a known partner.
        refused: (file, reason) of photos that were replaced while making the batch.
        elapsed: seconds of the step, waiting for its batches included.
        learning_rate: of the step.
    """

    step: int
    part: int
    total: float
    terms: dict[str, float]
    statistics: dict[str, float]
    pairs: int
    invalid_pairs: int
    refused: tuple[tuple[str, str], ...]
    elapsed: float
    learning_rate: float


def summarise(reports: Sequence[StepReport]) -> dict[str, float]:
    """Makes the metrics of an epoch from the reports of one part of its steps.

    Returns:
        `train/loss_total`, `train/loss_<term>`: means over pairs; `train/valid_queries`: mean over steps;
        `train/query_reliability`: mean over valid queries (left out if there were none);
        `train/pairs`, `train/invalid_pairs`, `train/pairs_without_query`: counts;
        `train/refused_photos`: number of different files; `train/pairs_per_second`;
        `train/learning_rate`: of the last step;
        `warning_signs/*`: of a collapse, see `measure_signs`, means over the last steps.
    """
    assert reports, "an epoch has at least one step"
    pairs = [report.pairs for report in reports]
    queries = [report.statistics["valid_queries"] for report in reports]
    metrics = {LOSSES[0]: _mean([report.total for report in reports], pairs)}
    for term in reports[0].terms:
        metrics[f"train/loss_{term}"] = _mean([report.terms[term] for report in reports], pairs)
    metrics["train/valid_queries"] = sum(queries) / len(queries)
    if any(queries):
        reliabilities = [report.statistics["query_reliability"] for report in reports]
        metrics["train/query_reliability"] = _mean(reliabilities, queries)
    metrics["train/pairs"] = float(sum(pairs))
    metrics["train/invalid_pairs"] = float(sum(report.invalid_pairs for report in reports))
    metrics["train/pairs_without_query"] = sum(r.statistics["pairs_without_query"] for r in reports)
    metrics["train/refused_photos"] = float(len({file for r in reports for file, _ in r.refused}))
    metrics[PAIRS_PER_SECOND] = sum(pairs) / sum(report.elapsed for report in reports)
    metrics["train/learning_rate"] = reports[-1].learning_rate
    last = reports[-LAST_STEPS:]
    for name in [sign for sign in SIGNS if sign in last[0].statistics]:
        metrics[f"warning_signs/{name}"] = sum(r.statistics[name] for r in last) / len(last)
    return metrics


def combine_workers(metrics: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Combines the metrics of all parts: it sums counts and speeds, and averages the rest."""
    keys = {key: None for worker in metrics for key in worker}
    combined = {}
    for key in keys:
        values = [worker[key] for worker in metrics if key in worker]
        combined[key] = sum(values) / (1 if key in _SUMMED else len(values))
    return combined


def _mean(values: Sequence[float], weights: Sequence[float]) -> float:
    return sum(v * w for v, w in zip(values, weights, strict=True)) / sum(weights)
