"""Turns a claim, such as "dice beats cosine by 0.01", into a sweep of two rows, and reads its answer."""

from __future__ import annotations

import math
import pprint
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluation.statistics.rounds import Decision
from r2d2.config import TrainConfig
from r2d2.losses.reliability import RELIABILITY_LOSSES
from r2d2.losses.similarity import SIMILARITIES
from r2d2.training.metrics import PAIRS_PER_SECOND
from r2d2.unknown import unknown
from runner.compare.rounds import Rounds, rounds_of
from runner.compare.rows import label_trials
from runner.record.history import TRAIN
from runner.record.sweep import StoredSweep
from search_spaces.sweep import Trial, overridden

_FORM = re.compile(r"\s*(\S.*?)\s+beats\s+(\S.*?)\s+by\s+(\S+)\s*")


@dataclass(frozen=True)
class Claim:
    """A Claim says that one kind of training makes better networks than another.

    Attributes:
        text: what the user wrote.
        variant, baseline: `key.path=value` assignments of both trainings.
        gain: the smallest gain that matters, in the unit of the metric, in (0, 1).
    """

    text: str
    variant: tuple[str, ...]
    baseline: tuple[str, ...]
    gain: float

    @classmethod
    def parse(cls, text: str) -> Claim:
        """Reads `A beats B by GAIN`; A and B are losses or settings, separated by commas.

        Raises:
            ValueError: if the text has another form, or names a loss that does not exist.
        """
        found = _FORM.fullmatch(text)
        if found is None:
            raise ValueError(
                f"the claim is '{text}'; it must read 'A beats B by GAIN', e.g. 'dice beats cosine by 0.01' "
                "or 'optimiser.learning_rate=3e-4 beats optimiser.learning_rate=1e-4 by 0.01'"
            )
        try:
            gain = float(found[3])
        except ValueError:
            gain = 0.0
        if not 0 < gain < 1:
            raise ValueError(f"the gain of the claim is '{found[3]}'; it must be a number between 0 and 1")
        return cls(text, _side(found[1]), _side(found[2]), gain)

    @property
    def name(self) -> str:
        """Names the sweep: the claim, with what a name may hold."""
        return re.sub(r"[^A-Za-z0-9]+", "-", self.text).strip("-")

    def trials(self, overrides: Sequence[str] = ()) -> tuple[Trial, Trial]:
        """Makes a trial of the baseline and one of the variant.

        Args:
            overrides: assignments for both; those of the claim win.

        Raises:
            ValueError: for a key or value that TrainConfig refuses, or if both are the same training.
        """
        sides = (overridden(overridden({}, overrides), side) for side in (self.baseline, self.variant))
        first, second = (Trial(TrainConfig.from_dict(side)) for side in sides)
        if first == second:
            raise ValueError(f"both sides of the claim '{self.text}' are the same training")
        return first, second

    def write(self, folder: Path, overrides: Sequence[str], samples: bool) -> Path:
        """Writes the sweep's file, which is called as the claim; returns its path.

        Args:
            folder: where.
            overrides: as of `trials`.
            samples: whether the sample pictures are photographs enough.
        """
        trials = self.trials(overrides)
        space = pprint.pformat([trial.config.to_dict() for trial in trials])
        baseline = label_trials(trials)[trials[0].key]
        file = folder / f"{self.name}.py"
        file.write_text(
            f"{self.text + '?'!r}\n\nfrom search_spaces.sweep import Sweep\n\n"
            f"sweep = Sweep(space={space}, baseline={baseline!r}, "
            f"starting_networks=False, samples={samples})\n",
            encoding="utf-8",
        )
        return file


def _side(text: str) -> tuple[str, ...]:
    return tuple(assignment for part in text.split(",") for assignment in _assignments(part.strip()))


def _assignments(part: str) -> list[str]:
    """`dice`, `hardnet` and `hardnet+dice` name losses; anything with an equals sign is an assignment."""
    if "=" in part:
        return [part]
    found = []
    for name in part.split("+"):
        if name in RELIABILITY_LOSSES:
            found.append(f"loss.reliability={name}")
        elif name in SIMILARITIES:
            found.append(f"loss.similarity={name}")
        else:
            known = (*sorted(RELIABILITY_LOSSES), *sorted(SIMILARITIES))
            raise ValueError(unknown("loss", name, known, besides=", or a setting, KEY=VALUE"))
    return found


def claim_answer(stored: StoredSweep) -> dict[str, Any]:
    """Reads what a sweep of one variant has answered, as docs/json.md describes it.

    Raises:
        ValueError: if the sweep asks nothing, or of several variants.
    """
    rounds, definition = rounds_of(stored), stored.definition
    if rounds is None or len({*rounds.decisions, *rounds.held}) > 1:
        raise ValueError(f"the sweep '{stored.name}' does not ask about one variant")
    decision = next(iter(rounds.decisions.values()), None)
    on = definition.benchmarks[definition.role]
    return {
        "sweep": stored.name,
        "metric": definition.metric,
        "answer": "undecided" if decision is None else _final(decision.answer, rounds),
        "held": next(iter(rounds.held.values()), ""),
        "seeds": 0 if decision is None else decision.seeds,
        **{name: _finite(decision, name) for name in ("estimate", "low", "high")},
        "asked": dict(definition.asked),
        "protocol": on["protocol"],
        "protocol_digest": on["protocol_digest"],
        "benchmark_digest": on["digest"],
        "photos_digest": definition.photos,
        "trainings": rounds.trained,
        "most_trainings": rounds.fixed,
        "hours": _hours(stored),
    }


def claim_words(text: str, found: Mapping[str, Any]) -> str:
    """Says the answer in a sentence.

    Args:
        text: of the claim.
        found: as of `claim_answer`.
    """
    said = found["held"] and f" ({found['held']})"
    if found["estimate"] is not None:
        said += f", {found['estimate']:+.4f} {found['metric']}"
    if found["low"] is not None:
        said += f" ({found['low']:+.4f} to {found['high']:+.4f})"
    took = f"{found['trainings']} of at most {found['most_trainings']} trainings, {found['hours']:.2f} hours"
    return f"{text}: {found['answer']}{said}; {found['seeds']} seeds of each, {took}."


def _final(answer: str, rounds: Rounds) -> str:
    """What is open, and gets no more seeds because a training failed, is undecided."""
    return "undecided" if answer == "open" and not rounds.due else answer


def _finite(decision: Decision | None, name: str) -> float | None:
    value = math.nan if decision is None else float(getattr(decision, name))
    return value if math.isfinite(value) else None


def _hours(stored: StoredSweep) -> float:
    """Hours of all workers spent on the epochs that are trained, by their pairs and speeds."""
    seconds = 0.0
    for trial in stored.trials():
        for record in stored.history(trial).records():
            if record.kind == TRAIN:
                seconds += trial.config.num_workers * _seconds(record.metrics)
    return seconds / 3600


def _seconds(metrics: Mapping[str, float]) -> float:
    speed = metrics.get(PAIRS_PER_SECOND, 0.0)
    return metrics.get("train/pairs", 0.0) / speed if speed else 0.0
