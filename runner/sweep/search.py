"""Describes what a searcher searches, and passes the trials' results on to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ray.tune.search import ConcurrencyLimiter, Searcher
from ray.tune.utils import flatten_dict

from runner.record.incidents import FAILED


def describe_space(space: Mapping[str, Any]) -> dict[str, str]:
    """Describes a space in the same words in every process: `a/b` -> value, or range and distribution."""
    return {name: _describe(value) for name, value in flatten_dict(dict(space)).items()}


def _describe(value: Any) -> str:
    if not hasattr(value, "sample"):
        return repr(value)
    return f"{value.domain_str} {type(value.get_sampler()).__name__.strip('_')}"


# So often in a row a searcher may suggest what there is, beside once for each trial there is.
REPEATS = 200


class Distinct(Searcher):
    """Passes on each suggestion once, and asks the searcher again for one that the sweep has.

    The searcher of a later attempt begins with the same random numbers as the first one, so it would suggest
    known trials again instead of new ones. A suggestion that is skipped is reported to the searcher as a
    failed trial, so that no score counts twice.
    """

    def __init__(
        self,
        searcher: Searcher,
        key_of: Callable[[Mapping[str, Any]], str],
        say: Callable[[str], None],
    ) -> None:
        """Wraps the searcher.

        Args:
            searcher: what suggests.
            key_of: the key of the trial that a suggestion makes.
            say: gets a sentence when nothing new is suggested any more.
        """
        super().__init__(metric=searcher.metric, mode=searcher.mode)
        self._searcher, self._key_of, self._say = searcher, key_of, say
        self._seen: set[str] = set()
        # The searcher's name of every trial that was passed on.
        self._names: dict[str, str] = {}

    @property
    def metric(self) -> str:
        """Returns the metric that the searcher learns from."""
        return self._searcher.metric

    def set_search_properties(self, metric: Any, mode: Any, config: dict[str, Any], **spec: Any) -> bool:
        """Tells the searcher what to search, if it does not know."""
        return bool(self._searcher.set_search_properties(metric, mode, config, **spec))

    def suggest(self, trial_id: str) -> Any:
        """Suggests the next trial that does not exist yet; FINISHED if the searcher repeats itself."""
        for number in range(REPEATS + len(self._seen)):
            name = f"{trial_id}-{number}"
            suggestion: Any = self._searcher.suggest(name)
            if suggestion is None or suggestion == Searcher.FINISHED:
                return suggestion
            key = self._key_of(suggestion)
            if key not in self._seen:
                self._seen.add(key)
                self._names[trial_id] = name
                return suggestion
            self._searcher.on_trial_complete(name, error=True)
        self._say(f"the searcher suggests nothing new: the search ends after {len(self._seen)} trials")
        return Searcher.FINISHED

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Passes on the score that a trial has reported."""
        self._searcher.on_trial_result(self._names[trial_id], result)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Passes on the end of a trial, good or bad."""
        self._searcher.on_trial_complete(self._names[trial_id], result, error)

    def save(self, checkpoint_path: str) -> None:
        """Has the searcher save what it knows."""
        self._searcher.save(checkpoint_path)

    def restore(self, checkpoint_path: str) -> None:
        """Has the searcher load what it knew."""
        self._searcher.restore(checkpoint_path)


class ScoresOnly(ConcurrencyLimiter):
    """Passes on the reports that carry the searcher's metric.

    Tune passes every report to the searcher, and Optuna's searcher fails on a report without its metric. A
    trial here reports an epoch's losses before its score is known.
    """

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Passes on a report of a score; drops one of losses."""
        if self.searcher.metric in result:
            super().on_trial_result(trial_id, result)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Passes on the end of a trial, good or bad."""
        super().on_trial_complete(trial_id, result, error or FAILED in (result or {}))
