"""Finds what a sweep with a question has decided, and which trainings its next round needs.

All of it is computed from the definition and the stored scores, so whoever asks again, after a kill or on
another machine, gets the same answer.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from evaluation.evaluation import OVERALL
from evaluation.statistics.contrasts import Scores
from evaluation.statistics.rounds import FIRST_LOOK, Decision, Question, decide
from evaluation.statistics.variants import Variant, joined
from r2d2.config import TrainConfig
from runner.compare.rows import find_baselines, label_trials, metric_and_split
from runner.compare.stored import compared
from runner.record.definition import SweepDefinition
from runner.record.sweep import StoredSweep
from search_spaces.sweep import Trial


@dataclass(frozen=True)
class Rounds:
    """Rounds say where a sweep with a question stands.

    Attributes:
        question: what is asked.
        decisions: on every variant that was tested, its last one.
        held: why a variant cannot be decided as things are, by row: a training failed or collapsed.
        due: trials of the next round that have neither ended nor failed; none: nothing more is trained.
        fixed: how many trainings all rounds would be.
        trained: how many trainings have ended.
    """

    question: Question
    decisions: Mapping[str, Decision]
    held: Mapping[str, str]
    due: tuple[Trial, ...]
    fixed: int
    trained: int

    @property
    def settled(self) -> dict[str, str]:
        """Returns the answers that are final, by row."""
        return {row: one.answer for row, one in self.decisions.items() if one.answer != "open"}

    @property
    def words(self) -> str:
        """Says how the sweep ended, or that it goes on, in a sentence."""
        counts: dict[str, int] = {}
        for row in (*self.decisions, *(row for row in self.held if row not in self.decisions)):
            made = self.decisions.get(row)
            said = f"held back ({self.held[row]})" if row in self.held else made.answer if made else "open"
            counts[said] = counts.get(said, 0) + 1
        answers = (
            ", ".join(f"{count} {said}" for said, count in counts.items()) or "no variant was tested yet"
        )
        taken = f"{self.trained} of at most {self.fixed} trainings"
        return f"{'Goes on' if self.due else 'Ended'} after {taken}: {answers}."


def rounds_of(stored: StoredSweep, failed: Collection[str] | None = None) -> Rounds | None:
    """Computes the rounds of a stored sweep; None if it was started without a question.

    Args:
        stored: the sweep.
        failed: keys of trials that are not tried again; None: all that have failed.
    """
    definition = stored.definition
    if not definition.asked:
        return None
    return _Table(stored, definition).rounds(failed)


@dataclass(frozen=True)
class _Table:
    """The trials of all rounds, by row and seed."""

    stored: StoredSweep
    definition: SweepDefinition

    @cached_property
    def trials(self) -> dict[tuple[str, int], Trial]:
        trials = [Trial(TrainConfig.from_dict(config)) for config in self.definition.trials.values()]
        labels = label_trials(trials, self.definition.names)
        return {(labels[trial.key], trial.config.seed): trial for trial in trials}

    @cached_property
    def rows(self) -> dict[str, str]:
        return {trial.key: row for (row, _), trial in self.trials.items()}

    @cached_property
    def baselines(self) -> dict[str, str]:
        """The row that each variant is compared with."""
        found = find_baselines(list(self.trials.values()), self.rows, self.definition.baseline)
        return {row: baseline for row, baseline in found.items() if row != baseline}

    @cached_property
    def seeds(self) -> tuple[int, ...]:
        return tuple(dict.fromkeys(seed for _, seed in self.trials))

    @cached_property
    def ended(self) -> list[Trial]:
        roles = tuple(self.definition.benchmarks)
        return [
            trial
            for trial in self.trials.values()
            if self.stored.history(trial).is_complete(trial.config.epochs, roles)
        ]

    def rounds(self, failed: Collection[str] | None) -> Rounds:
        if failed is None:
            failed = {t.key for t in self.trials.values() if self.stored.history(t).failure is not None}
        question = self.definition.asks
        assert question is not None
        variants = self._variants()
        made = decide(
            self._scores(variants),
            self.baselines,
            self.seeds,
            question,
            smaller_is_better=self.definition.mode == "min",
        )
        return self._rounds(question, made, self._held(variants, failed), failed)

    def _rounds(
        self,
        question: Question,
        made: Sequence[Sequence[Decision]],
        held: Mapping[str, str],
        failed: Collection[str],
    ) -> Rounds:
        """Walks through the rounds up to the first one that lacks a training."""
        by_seeds = {decisions[0].seeds: decisions for decisions in made}
        last: dict[str, Decision] = {}
        due: tuple[Trial, ...] = ()
        for count in range(FIRST_LOOK, question.most_seeds + 1):
            due = tuple(t for t in self._missing(last, held, count) if t.key not in failed)
            if due:
                break
            last |= {one.variant: one for one in by_seeds.get(count, ())}
        return Rounds(question, last, held, due, len(self.trials), len(self.ended))

    def _missing(self, last: Mapping[str, Decision], held: Mapping[str, str], count: int) -> list[Trial]:
        """The trials that a round needs and that have not ended."""
        going = [
            row
            for row in self.baselines
            if row not in held and (row not in last or last[row].answer == "open")
        ]
        rows = dict.fromkeys((*going, *(self.baselines[row] for row in going)))
        ended = {trial.key for trial in self.ended}
        wanted = [self.trials[row, seed] for seed in self.seeds[:count] for row in rows]
        return [trial for trial in wanted if trial.key not in ended]

    def _variants(self) -> dict[str, Variant]:
        if not self.ended:
            return {}
        found, _ = compared(self.stored, self.definition.role, self.ended, self.rows)
        return {row.name: row for row in joined(found)}

    def _scores(self, variants: Mapping[str, Variant]) -> dict[str, Scores]:
        """The scores of the rows whose figures mean something."""
        metric, split = metric_and_split(self.definition.metric.rpartition("/")[2])
        scores = {}
        for row, variant in variants.items():
            if not variant.collapsed and not variant.warnings:
                splits = np.array([str(one) for one in variant.sequences.values()])
                scores[row] = variant.scores((metric,), (splits == split) | (split == OVERALL))
        return scores

    def _held(self, variants: Mapping[str, Variant], failed: Collection[str]) -> dict[str, str]:
        """Why variants cannot be decided: for what happened to themselves, or to their baseline."""
        broken = {
            row: "its training failed" for (row, _), trial in self.trials.items() if trial.key in failed
        }
        broken |= {row: "its training is spoilt" for row, one in variants.items() if one.warnings}
        broken |= {row: "it has collapsed" for row, one in variants.items() if one.collapsed}
        return {
            row: broken.get(row) or f"of its baseline: {broken[baseline]}"
            for row, baseline in self.baselines.items()
            if {row, baseline} & broken.keys()
        }
