"""Simulates how often a sweep that stops early is wrong, and what it saves: `python -m bench.rounds`.

Studies whose truth is known are made as in `bench.power` and go through `evaluation.statistics.rounds`, from
the scores of sequences to the answer. A fixed design trains every variant and the baseline with equally many
seeds; it is given as many as find the same share of the gains.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import click
import numpy as np
from rich.table import Table

from bench.power import Design, simulate
from evaluation.statistics.contrasts import Scores
from evaluation.statistics.rounds import Decision, Question, decide
from runner.terminal.console import make_console

# Fewer draws than a true comparison, whose p-values are finer.
REPLICATES = 1_999

# A fixed design of more seeds is not looked for.
MOST_FIXED = 60


@dataclass(frozen=True)
class Outcome:
    """An Outcome says what studies of one kind ended with.

    Attributes:
        found: the share of the variants with a gain that were called better.
        equivalent: the share of the variants without a gain that were called equivalent.
        false: the share of studies in which a variant without a gain is called better or worse, or one with a
            gain worse.
        false_equivalent: the share of the variants with a gain of the margin or more called equivalent.
        trainings: how many a study took, of variants and baseline.
    """

    found: float
    equivalent: float
    false: float
    false_equivalent: float
    trainings: float


def studies_of(design: Design, question: Question, studies: int, seed: int = 1) -> Outcome:
    """Makes studies, decides them round by round, and counts."""
    rng = np.random.default_rng(seed)
    seen: list[Counter[str]] = [_count(design, question, rng) for _ in range(studies)]
    total = sum(seen, Counter())
    gained = sum(gain > 0 for gain in design.gains) * studies
    wide = sum(gain >= question.width for gain in design.gains) * studies
    equal = len(design.gains) * studies - gained
    return Outcome(
        found=total["found"] / gained if gained else np.nan,
        equivalent=total["equivalent"] / equal if equal else np.nan,
        false=sum(one["false"] > 0 for one in seen) / studies,
        false_equivalent=total["false equivalent"] / wide if wide else np.nan,
        trainings=total["trainings"] / studies,
    )


def _count(design: Design, question: Question, rng: np.random.Generator) -> Counter[str]:
    rows = [Scores(one.values, one.seeds) for one in design.studies(rng, 1)]
    names = [str(place) for place in range(len(rows))]
    baselines = dict.fromkeys(names[1:], names[0])
    seeds = tuple(range(question.most_seeds))
    scores = dict(zip(names, rows, strict=True))
    made = decide(scores, baselines, seeds, question, replicates=REPLICATES, intervals=False)
    return _counted(made, design.gains, question)


def _counted(
    rounds: Sequence[Sequence[Decision]], gains: Sequence[float], question: Question
) -> Counter[str]:
    last = {one.variant: one for made in rounds for one in made}
    found: Counter[str] = Counter(trainings=max(one.seeds for one in last.values()))
    for name, one in last.items():
        gain = gains[int(name) - 1]
        found["trainings"] += one.seeds
        found["found"] += gain > 0 and one.answer == "better"
        found["equivalent"] += gain == 0 and one.answer == "equivalent"
        found["false"] += one.answer == ("better" if gain <= 0 else "worse")
        found["false"] += gain == 0 and one.answer == "worse"
        found["false equivalent"] += gain >= question.width and one.answer == "equivalent"
    return found


def fixed_seeds(design: Design, found: float, studies: int) -> int:
    """Returns how many seeds a fixed design needs to find the same share of the gains."""
    for seeds in range(2, MOST_FIXED):
        if simulate(_with_seeds(design, seeds), studies, seed=2).found >= found:
            return seeds
    return MOST_FIXED


def _with_seeds(design: Design, seeds: int) -> Design:
    return replace(design, seeds=seeds)


@click.command()
@click.option(
    "--studies", type=click.IntRange(1), default=1000, show_default=True, help="Studies of each kind."
)
@click.option(
    "--gain", type=float, default=0.01, show_default=True, help="True gain, and the one asked about."
)
@click.option("--margin", type=float, help="Margin of the question.")
@click.option("--most", type=int, default=12, show_default=True, help="Most seeds.")
@click.option("--heavy", is_flag=True, help="Errors of Student's distribution with 3 degrees of freedom.")
@click.option("--sequences", type=int, default=108, show_default=True, help="Sequences of five pairs.")
def main(studies: int, gain: float, margin: float | None, most: int, heavy: bool, sequences: int) -> None:
    """Simulate studies of eight variants: none, four and all truly better."""
    asked = (
        f"gain {gain:g}, margin {margin or gain:g}{'' if margin else ' (not sought)'}, at most {most} seeds"
    )
    errors = "t3" if heavy else "normal"
    table = Table(title=f"{studies} studies of each kind; {asked}; {errors} errors; {sequences} sequences")
    for name in (
        "truly better",
        "found",
        "equal called so",
        "false",
        "false equivalent",
        "trainings",
        "fixed",
        "saved",
    ):
        table.add_column(name, justify="right")
    question = Question(gain, most, margin)
    for better in (0, 4, 8):
        design = Design(
            (gain,) * better + (0.0,) * (8 - better), seeds=most, heavy=heavy, sequences=sequences
        )
        one = studies_of(design, question, studies)
        fixed = 9 * fixed_seeds(design, one.found, 500) if better else np.nan
        shares = (one.found, one.equivalent, one.false, one.false_equivalent)
        table.add_row(
            str(better),
            *("" if np.isnan(share) else f"{share:.1%}" for share in shares),
            f"{one.trainings:.1f}",
            "" if np.isnan(fixed) else f"{fixed:g}",
            "" if np.isnan(fixed) else f"{1 - one.trainings / fixed:.0%}",
        )
    make_console().print(table)


if __name__ == "__main__":
    main()
