"""Describes what a sweep trains on and how much, and how small a gain it can show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rich.console import Console

from evaluation.statistics.power import smallest_detectable
from runner.compare.rows import find_baselines, label_trials
from runner.sweep.plan import SweepPlan
from runner.terminal.console import show_line

# Fewer steps change a network little, even a small one from scratch.
FEW_STEPS = 200

# A gain that is often the difference between two losses of the literature.
WANTED_GAIN = 0.02


@dataclass(frozen=True)
class Design:
    """A Design says how large a sweep is.

    Attributes:
        source: of the training data, as it was named.
        items: of the source, without what is held out; `noun` says what they are.
        noun: photographs or items.
        held_out: photographs that trials are scored by.
        pairs: of an epoch, the fewest and the most of any trial.
        steps: of a whole trial, likewise.
        compared: rows that are compared with another one; 0: a searcher chooses.
        seeds: of the row that has the fewest.
        sequences: by benchmark, those that rows are scored on.
        asked: whether the sweep stops when a question is answered.
    """

    source: str
    items: int
    noun: str
    held_out: int
    pairs: tuple[int, int]
    steps: tuple[int, int]
    compared: int
    seeds: int
    sequences: Mapping[str, int]
    asked: bool = False

    def gain(self, role: str, seeds: int = 0, sequences: int = 0) -> float:
        """Computes the smallest true MMA@3 gain that 80 of 100 such sweeps show; infinite with one seed."""
        return smallest_detectable(self.compared, seeds or self.seeds, sequences or self.sequences[role])

    def lines(self) -> list[str]:
        """Returns, in sentences, what a person should know before it starts."""
        lines = [
            f"Trained on {self.source}: {self.items} {self.noun}, and {self.held_out} photographs held out "
            "for validation.",
            f"{_range(self.pairs)} pairs an epoch, {_range(self.steps)} steps a trial.",
        ]
        if self.steps[0] < FEW_STEPS:
            lines.append(
                f"Fewer than {FEW_STEPS} steps change a network little: give it more photographs, "
                "data.pairs_per_epoch or epochs."
            )
        return [*lines, *self._power()]

    def _power(self) -> list[str]:
        if not self.compared:
            return ["A search finds settings; it does not show that one of them is better than another."]
        if self.seeds < 2:
            return [
                "One seed a row: it can show that two networks differ, and nothing about losses. Give every "
                "row two seeds or better three (r2d2 extend --set seed=1 --set seed=2)."
            ]
        if self.asked:
            return []
        lines = [
            f"Smallest true gain that it shows with 80 % power, {self.compared} comparisons of {self.seeds} "
            f"seeds: {self._gains()} (MMA@3, by the spread of scores that was measured on HPatches)."
        ]
        role = next(iter(self.sequences))
        if self.gain(role) > WANTED_GAIN:
            lines.append(self._help(role))
        return lines

    def _gains(self) -> str:
        return ", ".join(
            f"+{self.gain(role):.3f} on {role} ({count} sequences)" for role, count in self.sequences.items()
        )

    def _help(self, role: str) -> str:
        """Says what more seeds and more images would do."""
        more, count = 2 * self.seeds, 4 * self.sequences[role]
        images = f"{4 * self.held_out} photographs held out" if role == "validation" else f"{count} sequences"
        return (
            f"Smaller gains: +{self.gain(role, seeds=more):.3f} with {more} seeds "
            f"(r2d2 extend --set seed=N), +{self.gain(role, sequences=count):.3f} with {images}"
            f"{' (--set data.held_out=N)' if role == 'validation' else ''}."
        )

    def show(self, console: Console) -> None:
        """Prints the sentences."""
        for line in self.lines():
            show_line(console, line)


def design_of(plan: SweepPlan) -> Design:
    """Finds the size of a planned sweep."""
    from runner.sweep.estimate import steps_per_epoch

    config, training = plan.trials[0].config.data, plan.data.training
    pairs = [t.config.data.pairs_per_epoch or training.pairs for t in plan.trials]
    steps = [t.config.epochs * steps_per_epoch(plan, t) for t in plan.trials]
    labels = label_trials((*plan.starts, *plan.trials))
    rows: dict[str, set[int]] = {}
    for trial in plan.trials:
        rows.setdefault(labels[trial.key], set()).add(trial.config.seed)
    baselines = find_baselines(plan.trials, labels, plan.sweep.baseline)
    searched = plan.sweep.search_alg is not None
    return Design(
        source=config.sources or config.photos,
        items=len(training),
        noun=training.noun,
        held_out=len(plan.data.held_out),
        pairs=(min(pairs), max(pairs)),
        steps=(min(steps), max(steps)),
        compared=0 if searched else max(1, len(set(labels.values())) - max(1, len(set(baselines.values())))),
        seeds=min(map(len, rows.values())),
        sequences=plan.data.sequences,
        asked=plan.options.asked is not None,
    )


def _range(values: tuple[int, int]) -> str:
    low, high = values
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
