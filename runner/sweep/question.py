"""Chooses how many seeds a question is worth, and forecasts what it will take."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from evaluation.statistics.power import Forecast, forecast, needed_seeds
from evaluation.statistics.rounds import FIRST_LOOK, Question
from runner.compare.report import known_spread
from runner.compare.rows import find_baselines, label_trials
from runner.record.definition import SweepDefinition
from runner.settings import Settings
from runner.sweep.estimate import estimate
from runner.sweep.plan import SweepOptions, SweepPlan, plan_sweep

# Looking after every round costs power, which further rounds give back; chosen by simulation.
INFLATION = 1.4


@dataclass(frozen=True)
class Asked:
    """An Asked holds what a user asks: the fields of a `Question`; its number of seeds may be left open.

    Attributes:
        gain, margin: as of `Question`.
        most_seeds: None: as many as the budget holds, or find the gain in 80 of 100 studies.
        budget: hours of GPUs, or of CPUs without any, of all trainings; None: any.
    """

    gain: float
    margin: float | None = None
    most_seeds: int | None = None
    budget: float | None = None


def plan_question(
    source: str,
    settings: Settings,
    options: SweepOptions,
    asked: Asked,
    say: Callable[[str], None],
) -> SweepPlan:
    """Plans a sweep that stops when its question is answered.

    A sweep that has begun keeps its number of seeds, unless another one is named.

    Args:
        source: the sweep's name or the path of its file.
        settings: where things are.
        options: of the command line, without the question.
        asked: the question.
        say: told what takes long.

    Raises:
        ValueError: as `plan_sweep`; if the budget holds no round, or no number of seeds shows the gain.
    """
    question = Question(asked.gain, asked.most_seeds or FIRST_LOOK, asked.margin)
    first = replace(options, asked=question)
    if asked.most_seeds is not None:
        return plan_sweep(source, settings, first, say)
    begun = _begun(source, settings, options)
    if begun is not None:
        most = begun.most_seeds
    else:
        plan = plan_sweep(source, settings, first, say)
        budget = asked.budget
        most = _seeds_of_budget(plan, settings, budget) if budget else _seeds_of_gain(plan, settings)
    return plan_sweep(source, settings, replace(options, asked=replace(question, most_seeds=most)), say)


def _begun(source: str, settings: Settings, options: SweepOptions) -> Question | None:
    name = options.name or source.rpartition("/")[2].removesuffix(".py")
    definition = SweepDefinition.load(settings.sweep(name))
    return definition.asks if definition is not None else None


def _seeds_of_budget(plan: SweepPlan, settings: Settings, budget: float) -> int:
    """How many rounds fit, if no variant is decided before the last one."""
    found = estimate(plan, settings)
    each = found.hours / FIRST_LOOK
    most = math.floor(budget / each)
    if most < FIRST_LOOK:
        rows = len(plan.trials) // FIRST_LOOK
        raise ValueError(
            f"a budget of {budget:g} h holds no round: {FIRST_LOOK} seeds of {rows} rows take about "
            f"{found.hours:.2f} {found.unit} hours"
        )
    return most


def _seeds_of_gain(plan: SweepPlan, settings: Settings) -> int:
    assert plan.options.asked is not None
    gain, variants, sequences = plan.options.asked.gain, _variants(plan), _sequences(plan)
    fixed = needed_seeds(gain, known_spread(settings, plan.definition).variances, variants, sequences)
    if fixed is None:
        raise ValueError(
            f"a gain of {gain:g} is too small for {sequences} sequences: hold out more photographs "
            "(--set data.held_out=N), or name a number of seeds with --max-seeds"
        )
    return max(FIRST_LOOK + 1, math.ceil(INFLATION * fixed))


def _variants(plan: SweepPlan) -> int:
    """How many trained rows are compared with a baseline."""
    labels = label_trials(plan.trials)
    baselines = find_baselines(plan.trials, labels, plan.sweep.baseline)
    return sum(row != baseline for row, baseline in baselines.items())


def _sequences(plan: SweepPlan) -> int:
    role = plan.definition.role
    return plan.data.sequences[role]


def question_lines(plan: SweepPlan, settings: Settings) -> list[str]:
    """Returns, in sentences, what a question asks and what it will probably take.

    Args:
        plan: of a sweep with a question.
        settings: say where earlier sweeps lie, whose scores show how far seeds scatter.
    """
    question = plan.options.asked
    assert question is not None
    variants, rows = _variants(plan), len(plan.trials) // question.most_seeds
    spread = known_spread(settings, plan.definition)
    within = f"within {question.width:g}"
    lines = [
        f"Question: is a variant better or worse than its baseline, or equivalent {within}? Seeds are added "
        f"in rounds, and a decided variant gets no more: at most {question.most_seeds} seeds of {rows} rows, "
        f"{len(plan.trials)} trainings.",
        f"Expected on {_sequences(plan)} sequences, by the spread of scores {spread.source}:",
    ]
    cases = {0: "no variant differs", variants // 2: "half gain", variants: "all gain"}
    # Of a single variant, half are none.
    for count, words in {**cases, 0: "no variant differs"}.items():
        gains = (question.gain,) * count + (0.0,) * (variants - count)
        told = forecast(question, spread.variances, gains, _sequences(plan))
        lines.append(f"  if {words}: {_told(told, question)}")
    return lines


def _told(told: Forecast, question: Question) -> str:
    found = "" if math.isnan(told.found) else f", a gain of {question.gain:g} is found in {told.found:.0%}"
    return f"{told.trainings:.0f} trainings{found}, {told.decided:.0%} of the variants are decided."
