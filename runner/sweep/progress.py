"""Shows a running sweep: one live table, or plain lines if the output is no terminal."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from evaluation.metrics.pair_metrics import ranked
from r2d2.losses.config import TERMS
from r2d2.training.metrics import LOSSES, PAIRS_PER_SECOND
from runner.cluster.metrics import SCORE, SPEED, TRIALS, WAITING, Figures
from runner.record.history import TRAIN, Record
from runner.record.sweep import StoredSweep
from runner.terminal.console import show_line
from runner.terminal.fitted_table import Column, FittedTable
from runner.trial.progress import ProgressReader
from search_spaces.sweep import Trial

STATES = ("waiting", "training", "finished", "failed", "stopped")


@dataclass
class TrialProgress:
    """A TrialProgress says how far one trial is; its status is one of `STATES`."""

    name: str
    epochs: int
    steps: ProgressReader
    status: str = "waiting"
    epoch: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    started: float | None = None
    first_epoch: int | None = None
    ended: float | None = None
    variant: str = ""
    trained: set[int] = field(default_factory=set)
    scored: set[tuple[int, str]] = field(default_factory=set)

    @classmethod
    def of(cls, stored: StoredSweep, trial: Trial, ended: bool = False, row: str = "") -> TrialProgress:
        """Returns the progress of a trial that waits, or has ended before.

        Args:
            stored: the sweep.
            trial: one of it.
            ended: whether it has.
            row: of the trial in tables; empty: its variant, as far as its loss and its start say.
        """
        steps = ProgressReader(stored.trial_store(trial))
        status = "finished" if ended else "waiting"
        return cls(trial.key, trial.config.epochs, steps, status, variant=row or trial.variant)

    def update(self, record: Record) -> None:
        """Takes in an event."""
        self.metrics |= record.metrics
        if record.kind == TRAIN:
            self.epoch = max(self.epoch, record.epoch)
            self.trained.add(record.epoch)
        else:
            self.scored.add((record.epoch, record.kind))

    def unscored(self, roles: Collection[str]) -> int:
        """Returns how many evaluations of its checkpoints wait or run, on the benchmarks of these roles."""
        return sum((epoch, role) not in self.scored for epoch in self.trained for role in roles)

    def position(self) -> float:
        """Returns the epochs done, with the part of the present one that the worker last wrote down."""
        if self.status != "training":
            return float(self.epoch)
        return max(float(self.epoch), self.steps.position())


class Standing(Protocol):
    """A Standing supplies one line below the table."""

    @property
    def standing(self) -> str:
        """Returns the line; empty if there is nothing to say."""


class SweepProgress:
    """Shows the live table of a sweep. Use it as a context; `refresh` is called about once a second."""

    def __init__(
        self,
        console: Console,
        title: str,
        metric: str,
        trials: Mapping[str, TrialProgress],
        beside: Standing | None = None,
    ) -> None:
        self._beside = beside
        self._console, self._title, self._metric = console, title, metric
        self.trials = dict(trials)
        self._started = time.monotonic()
        self._live = Live(get_renderable=self._render, console=console, refresh_per_second=1, transient=True)

    def __enter__(self) -> SweepProgress:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._console.is_terminal:
            self._live.stop()

    def started(self, key: str, trial: TrialProgress) -> None:
        """Shows that a trial begins (or continues)."""
        known = self.trials.setdefault(key, trial)
        known.status, known.started = "training", time.monotonic()
        self._line(f"{key}: started")

    def event(self, key: str, record: Record) -> None:
        """Shows that an epoch was trained or a checkpoint scored."""
        trial = self.trials[key]
        trial.update(record)
        if record.kind == TRAIN:
            losses = " ".join(f"{t.rpartition('_')[2]} {record.metrics.get(t, math.nan):.3f}" for t in LOSSES)
            speed = record.metrics.get(PAIRS_PER_SECOND, math.nan)
            self._line(f"{key}: epoch {record.epoch}/{trial.epochs} {losses} ({speed:.1f} pairs/s)")
        else:
            self._line(f"{key}: epoch {record.epoch} {record.kind} {_score(record)}")

    def ended(self, key: str, status: str, reason: str | None = None) -> None:
        """Shows that a trial ended."""
        self.trials[key].status, self.trials[key].ended = status, time.monotonic()
        # Why a trial was stopped says that it was.
        words = status if reason is None else reason if status == "stopped" else f"{status} ({reason})"
        self.say(f"{key}: {words}")

    def figures(self, roles: Collection[str]) -> Figures:
        """Returns what `runner.cluster.metrics` exports.

        Args:
            roles: the benchmarks that every checkpoint is scored on.
        """
        trials = self.trials.values()
        training = [trial for trial in trials if trial.status == "training"]
        scores: dict[str, list[float]] = defaultdict(list)
        for trial in trials:
            if self._metric in trial.metrics:
                scores[trial.variant].append(trial.metrics[self._metric])
        return {
            SPEED: {t.name: t.metrics[PAIRS_PER_SECOND] for t in training if PAIRS_PER_SECOND in t.metrics},
            WAITING: {"": sum(trial.unscored(roles) for trial in training)},
            TRIALS: {state: sum(trial.status == state for trial in trials) for state in STATES},
            SCORE: {variant: sum(found) / len(found) for variant, found in scores.items()},
        }

    def say(self, text: str) -> None:
        """Prints a line above the table."""
        show_line(self._console, text)

    def _line(self, text: str) -> None:
        if not self._console.is_terminal:
            self.say(text)

    def _render(self) -> Group:
        state, score, left = Column("state", True, 0), Column(self._metric, rank=2), Column("left", rank=2)
        losses = [Column(head, rank=3) for head in TERMS.values()]
        speed = Column("pairs/s", rank=3)
        table = FittedTable(
            ["trial", state, Column("epoch", rank=0), "loss", *losses, score, speed, left], title=self._title
        )
        shown = sorted(self.trials.values(), key=lambda t: t.status != "training")
        room = max(5, self._console.size.height - 8)
        for trial in shown[:room]:
            table.add_row(*self._cells(trial))
        done = sum(t.status not in ("waiting", "training") for t in self.trials.values())
        rest = f", {len(shown) - room} more not shown" if len(shown) > room else ""
        lines = [f"{done} of {len(shown)} trials done, {_clock(self._left())} left{rest}"]
        if self._beside is not None and self._beside.standing:
            lines.append(self._beside.standing)
        return Group(table, Text("\n".join(lines)))

    def _cells(self, trial: TrialProgress) -> list[str]:
        figures = [_figure(trial.metrics.get(term)) for term in LOSSES]
        score, speed = trial.metrics.get(self._metric), trial.metrics.get(PAIRS_PER_SECOND)
        position = trial.position()
        state = trial.status
        if state == "training" and position <= 0 < trial.epochs:
            # It may wait for another trial to end: its own time begins with its first step.
            state, trial.started = "starting", time.monotonic()
        epoch = (
            f"{position:.1f}/{trial.epochs}"
            if trial.status == "training"
            else f"{trial.epoch}/{trial.epochs}"
        )
        left = _clock(self._trial_left(trial)) if trial.status == "training" else ""
        pairs = "" if speed is None else f"{speed:.1f}"
        return [trial.name, state, epoch, *figures, _figure(score), pairs, left]

    def _trial_left(self, trial: TrialProgress) -> float:
        position = trial.position()
        if trial.started is None or position <= 0:
            return math.nan
        return (time.monotonic() - trial.started) / position * max(trial.epochs - position, 0)

    def _left(self) -> float:
        """Estimates the seconds until all trials are done, at the speed so far."""
        total = sum(t.epochs for t in self.trials.values())
        done = sum(
            t.position() if t.status in ("waiting", "training") else t.epochs for t in self.trials.values()
        )
        return (time.monotonic() - self._started) / done * (total - done) if done else math.nan


def _score(record: Record) -> str:
    if record.error is not None:
        return f"not scored: {record.error}"
    shown = {f"{record.kind}/{name}": name for name in ranked(2)}
    return " ".join(f"{shown[key]} {value:.3f}" for key, value in record.metrics.items() if key in shown)


def _figure(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else f"{value:.3f}"


def _clock(seconds: float) -> str:
    if math.isnan(seconds):
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
