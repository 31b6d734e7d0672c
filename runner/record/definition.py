"""Defines SweepDefinition: everything that a sweep's figures depend on, written down when it starts.

A sweep is resumed only if its definition is still the same: figures of two definitions never share a table.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from evaluation.statistics.rounds import Question
from r2d2.config import TrainConfig
from r2d2.formats.stored_json import typed
from r2d2.storage.location import store_at
from r2d2.storage.store import Store
from runner.record.history import TRAIN, put_json, read_value
from runner.record.layout import DEFINITION

MAX_DIFFERENCES = 8


@dataclass(frozen=True)
class SweepDefinition:
    """A SweepDefinition says what a sweep's figures depend on.

    Attributes:
        name: the sweep's, and its MLflow experiment's.
        metric, mode: the score that decides.
        trials: key to configuration, in order; empty if a searcher chooses them. What a configuration does
            not name, because it was written before the setting existed, has its default.
        search: what a searcher chooses from, and how often; empty without a searcher.
        photos: digests of the training data, all sources of it, and of the photographs held out.
        benchmarks: role to {"protocol", "protocol_digest", "digest"}.
        init: digest of the released network, empty if no trial needs it.
        baseline, names: as of `search_spaces.sweep.Sweep`; how trials are compared and called, which changes
            none of them.
        asked: the fields of an `evaluation.statistics.rounds.Question`, if the sweep stops when it is
            answered: `trials` are then those of all rounds, the seeds of the first one first. Empty: none.
    """

    name: str
    metric: str
    mode: str
    trials: Mapping[str, Mapping[str, Any]]
    search: Mapping[str, str]
    photos: str
    benchmarks: Mapping[str, Mapping[str, str]]
    init: str
    baseline: str = ""
    names: Mapping[str, str] = field(default_factory=dict)
    asked: Mapping[str, float | None] = field(default_factory=dict)

    @property
    def role(self) -> str:
        """Returns the benchmark that decides; for a loss the first one; empty without any."""
        role = self.metric.partition("/")[0]
        return next(iter(self.benchmarks), "") if role == TRAIN else role

    @property
    def asks(self) -> Question | None:
        """Returns the question that ends the sweep once it is answered; None if every trial is run."""
        return typed(Question, self.asked) if self.asked else None

    def save(self, place: str | Path | Store) -> None:
        """Writes the definition into the sweep's place."""
        put_json(store_at(place), DEFINITION, asdict(self))

    @classmethod
    def load(cls, place: str | Path | Store) -> SweepDefinition | None:
        """Reads the definition of the sweep at a place; None if there is none.

        Raises:
            ValueError: if the file is damaged.
        """
        advice = "delete the sweep or choose another --name"
        return read_value(store_at(place), DEFINITION, partial(typed, cls), advice)

    def differences(self, other: SweepDefinition) -> list[str]:
        """Lists what `other` has changed, one line each."""
        mine, others = _compared(self), _compared(other)
        trials = _trial_differences(mine.pop("trials"), others.pop("trials"))
        return trials + _differences(mine, others, "")

    def require_grown(self, other: SweepDefinition, place: str | Path) -> None:
        """Refuses to extend a sweep by what would change the trials that it has.

        Raises:
            ValueError: with the differences, or if nothing is added.
        """
        mine, others = _compared(self), _compared(other)
        kept = {key: config for key, config in other.trials.items() if key in self.trials}
        del others["trials"]
        lines = _trial_differences(mine.pop("trials"), kept)
        # A searcher may suggest more trials, and new trials may start from networks that none did before.
        samples = [int(each.pop("search").get("num_samples", 0)) for each in (mine, others)]
        search = [{**each.search, "num_samples": ""} for each in (self, other)]
        inits = [set(each.pop("init").split()) for each in (mine, others)]
        lines += _differences(mine, others, "") + _differences(search[0], search[1], "search")
        if not inits[0] <= inits[1]:
            lines.append("init: the starting networks are others")
        if lines:
            raise ValueError(
                f"the sweep '{self.name}' in {place} cannot be extended like this, because what it has "
                f"would change: {'; '.join(lines[:MAX_DIFFERENCES])}. Start another sweep, with --name"
            )
        if len(other.trials) == len(self.trials) and samples[1] <= samples[0]:
            had = f"{samples[0]} samples" if samples[0] else f"{len(self.trials)} trials"
            raise ValueError(f"nothing is added to the {had} of the sweep '{self.name}'")

    def require_same(self, other: SweepDefinition, place: str | Path) -> None:
        """Refuses to resume a sweep whose definition has changed.

        Raises:
            ValueError: with the differences and what to do.
        """
        lines = self.differences(other)
        if lines:
            shown = lines[:MAX_DIFFERENCES]
            shown += [f"and {len(lines) - len(shown)} more"] if len(lines) > len(shown) else []
            raise ValueError(
                f"the sweep '{self.name}' in {place} was started with another definition: "
                f"{'; '.join(shown)}. Give the new one a name of its own with --name"
            )


def _compared(definition: SweepDefinition) -> dict[str, Any]:
    """Returns what two definitions must share; baselines and names of rows may change."""
    return {key: value for key, value in asdict(definition).items() if key not in ("baseline", "names")}


def _trial_differences(
    old: Mapping[str, Mapping[str, Any]], new: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    """Lists which settings changed in how many trials, or which trials were added or removed.

    A trial's key is made from its configuration and says little to a person: trials are compared in order.
    """
    if len(old) != len(new):
        gone = [f"the trial {key} is gone" for key in old if key not in new]
        return gone + [f"the trial {key} is new" for key in new if key not in old]
    changes = Counter(
        line
        for before, after in zip(old.values(), new.values(), strict=True)
        for line in _differences(_complete(before), _complete(after), "")
    )
    return [f"{line}{f' in {times} trials' if times > 1 else ''}" for line, times in changes.items()]


def _complete(config: Mapping[str, Any]) -> dict[str, Any]:
    """Adds the defaults to a stored configuration; keys that are unknown today stay."""
    complete = TrainConfig().to_dict()
    for name, value in config.items():
        inner = complete.get(name)
        merged = isinstance(inner, dict) and isinstance(value, Mapping)
        complete[name] = {**(inner or {}), **value} if merged else value
    return complete


def _differences(old: Any, new: Any, path: str) -> list[str]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        lines: list[str] = []
        for name in sorted({*old, *new}):
            inner = f"{path}.{name}" if path else str(name)
            if name not in old or name not in new:
                lines.append(f"{inner} is {'new' if name not in old else 'gone'}")
            else:
                lines += _differences(old[name], new[name], inner)
        return lines
    return [] if old == new else [f"{path} was {_short(old)}, is {_short(new)}"]


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
