"""Checks what a sweep is trained on and decided by: trials share their data, places are named in full."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from r2d2.config import DataConfig
from r2d2.data.photos import SAMPLES
from r2d2.data.source_text import absolute_sources
from r2d2.storage.location import absolute_place, is_remote
from runner.record.looks import is_test
from search_spaces.sweep import VALIDATION, Sweep, Trial

# Entries of `data` that all trials of a sweep share: what is trained on, and what is held out for validation.
_SHARED = ("photos", "sources", "held_out", "split_seed")


def common_data(trials: Sequence[Trial]) -> DataConfig:
    """Returns the training data and the split that all trials share.

    Raises:
        ValueError: if there are no trials, or they do not share them.
    """
    if not trials:
        raise ValueError("the sweep has no trials: nothing in its space is a point of a grid")
    splits = {tuple(getattr(trial.config.data, name) for name in _SHARED) for trial in trials}
    if len(splits) > 1:
        *names, last = (f"data.{name}" for name in _SHARED)
        raise ValueError(
            f"the trials of a sweep must share {', '.join(names)} and {last}, "
            f"or their validation scores are not comparable; found {sorted(splits)}"
        )
    return trials[0].config.data


def refuse_samples(sweep: Sweep, name: str, overrides: Sequence[str]) -> None:
    """Refuses to answer a question with the sample pictures unless they are asked for by name.

    Raises:
        ValueError: says what to name.
    """
    named = any(o.partition("=")[0].strip() in ("data.photos", "data.sources") for o in overrides)
    data = common_data(sweep.trials(overrides))
    if not sweep.samples and not named and data.photos == SAMPLES and not data.sources:
        raise ValueError(
            f"'{name}' needs training data: name photographs with --photos PLACE, or training data with "
            "--set data.sources=wasf=PLACE. A few sample pictures (moon, grass, astronaut ...) cannot answer "
            "its question; --photos samples takes them all the same"
        )


def absolute_overrides(sweep: Sweep, overrides: Sequence[str]) -> tuple[str, ...]:
    """Adds the places of photographs and sources in full: workers run in folders of their own.

    So a trial has the same name however the places are written and wherever the command runs.

    Raises:
        ValueError: if both photographs and sources are named, or the trials do not share them.
    """
    data = common_data(sweep.trials(overrides))
    if data.sources and data.photos != SAMPLES:
        raise ValueError(
            f"data.sources ('{data.sources}') takes the place of data.photos ('{data.photos}'): name "
            "photographs as one of the sources, photos=PLACE, or leave data.photos out"
        )
    places = []
    if data.photos != SAMPLES and not is_remote(data.photos):
        places.append(f"data.photos={absolute_place(data.photos)}")
    if data.sources:
        places.append(f"data.sources={absolute_sources(data.sources)}")
    return tuple(dict.fromkeys((*overrides, *places)))


def refuse_test(metric: str, may_choose: bool) -> None:
    """Refuses to choose networks by a benchmark that shall test them, unless the user says so.

    Args:
        metric: that decides, with its role.
        may_choose: whether the user has said so.

    Raises:
        ValueError: says what to do.
    """
    if is_test(metric.partition("/")[0]) and not may_choose:
        raise ValueError(
            f"this sweep is decided by {metric}, a score on a test: what chooses networks no longer tests "
            f'them. Decide by metric="{VALIDATION}/..." in its file; or give --choose-on-test, and every '
            "later table says so"
        )


def require_scored(metric: str, scored: Collection[str]) -> None:
    """Refuses a sweep that is decided by a benchmark that it does not have.

    Args:
        metric: that decides, with its role.
        scored: the roles of its benchmarks.

    Raises:
        ValueError: says what is missing.
    """
    role = metric.partition("/")[0]
    if role not in scored:
        hint = "data.held_out is 0" if role == VALIDATION else "no folder was given with --hpatches"
        raise ValueError(f"the sweep is decided by {metric}, but nothing is scored on '{role}': {hint}")
