"""What a searcher searches, in words, and what it hears of the trials."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ray.tune.search import ConcurrencyLimiter
from ray.tune.utils import flatten_dict

from runner.incidents import FAILED


def describe_space(space: Mapping[str, Any]) -> dict[str, str]:
    """A space in words that are the same in every process: `a/b` -> value, or range and distribution."""
    return {name: _describe(value) for name, value in flatten_dict(dict(space)).items()}


def _describe(value: Any) -> str:
    if not hasattr(value, "sample"):
        return repr(value)
    return f"{value.domain_str} {type(value.get_sampler()).__name__.strip('_')}"


class ScoresOnly(ConcurrencyLimiter):
    """Passes on the reports that carry the searcher's metric.

    Tune hands every report to the searcher, and Optuna's fails on one without its metric; a trial here
    reports an epoch's losses before its score is known.
    """

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """A trial has reported losses or a score."""
        if self.searcher.metric in result:
            super().on_trial_result(trial_id, result)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """A trial has ended, well or not."""
        super().on_trial_complete(trial_id, result, error or FAILED in (result or {}))
