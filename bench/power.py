"""Simulates how often a comparison finds a true gain, and how often a false one: `python -m bench.power`.

Studies whose truth is known are made by the model of `evaluation.statistics.bootstrap` and go through the
same code as those that were trained, from the scores of sequences to the verdict. With OMP_NUM_THREADS=1 it
takes 7 minutes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import click
import numpy as np
import numpy.typing as npt
from rich.table import Table

from evaluation.metrics.pair_metrics import find_pair_metric
from evaluation.statistics.bootstrap import holm
from evaluation.statistics.compare import verdict
from evaluation.statistics.contrasts import Scores, estimate_contrasts
from evaluation.statistics.power import PAIR, SEED, SEED_ON_SEQUENCE, smallest_detectable
from runner.terminal.console import make_console

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Words = npt.NDArray[np.str_]

# As many studies at a time as memory takes; fewer draws than a true comparison, whose p-values are finer.
AT_ONCE, REPLICATES = 250, 1_999


@dataclass(frozen=True)
class Design:
    """A Design describes studies of one kind; standard deviations are in units of MMA.

    Attributes:
        gains: the true differences of the variants to the baseline.
        seeds: how many of each variant, the baseline first; one number: of all.
        sequences, pairs: of the benchmark, and of each sequence.
        paired: whether equal seeds are known to be equal.
        seed, seed_on_sequence, pair: as in `evaluation.statistics.power`.
        common: of what a seed does to all variants.
        suits: of what a variant gains on one sequence and loses on another.
        uneven: how many times further the seeds of the last variant scatter.
        heavy: whether seeds, and networks on sequences, scatter as Student's distribution with 3 degrees of
            freedom, of the same standard deviation.
    """

    gains: tuple[float, ...]
    seeds: int | tuple[int, ...] = 3
    sequences: int = 108
    pairs: int = 5
    paired: bool = True
    seed: float = SEED
    seed_on_sequence: float = SEED_ON_SEQUENCE
    pair: float = PAIR
    common: float = 0.004
    suits: float = 0.0
    uneven: float = 1.0
    heavy: bool = False

    @property
    def counts(self) -> tuple[int, ...]:
        """Returns the seeds of each row, the baseline first."""
        return (self.seeds,) * (len(self.gains) + 1) if isinstance(self.seeds, int) else self.seeds

    def studies(self, rng: np.random.Generator, studies: int) -> list[Scores]:
        """Draws the scores of the baseline and of the variants, each (seeds, sequences, studies)."""
        most = max(self.counts)
        shared = 0.15 * rng.standard_normal((1, self.sequences, studies))
        shared = shared + self.common * rng.standard_normal((most, 1, studies))
        rows = []
        for place, (gain, count) in enumerate(zip((0.0, *self.gains), self.counts, strict=True)):
            seed = self.seed * (self.uneven if place == len(self.gains) else 1)
            values = 0.6 + gain + shared[:count] + seed * self._scatter(rng, (count, 1, studies))
            values += self.suits * rng.standard_normal((1, self.sequences, studies))
            values += self.seed_on_sequence * self._scatter(rng, (count, self.sequences, studies))
            values += self.pair / self.pairs**0.5 * rng.standard_normal((count, self.sequences, studies))
            rows.append(Scores(values, tuple(range(count)) if self.paired else None))
        return rows

    def _scatter(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
        if not self.heavy:
            return rng.standard_normal(shape)
        scattered: Floats = rng.standard_t(3, shape) / 3**0.5
        return scattered


@dataclass(frozen=True)
class Outcome:
    """An Outcome says what studies of one design ended with.

    Attributes:
        found: the share of the variants with a gain that were called better.
        false: the share of studies with a verdict that is false: a variant without a gain is called better or
            worse, or one with a gain worse.
        differing: the share of studies in which networks are said to differ.
        covered: the share of the 95 % intervals that hold the truth.
    """

    found: float
    false: float
    differing: float
    covered: float


def simulate(design: Design, studies: int, seed: int = 1, replicates: int = REPLICATES) -> Outcome:
    """Makes studies and compares their variants with the baseline."""
    rng = np.random.default_rng(seed)
    truth = np.array(design.gains)[:, None]
    parts = [_compared(design.studies(rng, size), replicates, truth) for size in _sizes(studies)]
    verdicts, covered = (np.concatenate(part, axis=1) for part in zip(*parts, strict=True))
    better, worse = verdicts == "better", verdicts == "worse"
    false = (better & (truth <= 0)) | (worse & (truth >= 0))
    gained = truth[:, 0] > 0
    return Outcome(
        found=float(better[gained].mean()) if gained.any() else np.nan,
        false=float(false.any(axis=0).mean()),
        differing=float((verdicts == "these networks differ").any(axis=0).mean()),
        covered=float(covered.mean()),
    )


def _sizes(studies: int) -> Iterator[int]:
    for first in range(0, studies, AT_ONCE):
        yield min(AT_ONCE, studies - first)


def _compared(rows: Sequence[Scores], replicates: int, truth: Floats) -> tuple[Words, Bools]:
    """The verdict on each variant in each study, and whether its interval holds the truth."""
    found = estimate_contrasts(rows[0], rows[1:], replicates)
    corrected = holm(np.array([estimates.p for estimates in found]))
    metric, covers = find_pair_metric("mma_3px"), min(len(row.values) for row in rows) > 1
    verdicts = [
        [verdict(metric, *one, covers) for one in zip(estimates.value, p, strict=True)]
        for estimates, p in zip(found, corrected, strict=True)
    ]
    low, high = (np.array([getattr(one, end) for one in found]) for end in ("low", "high"))
    return np.array(verdicts), (low <= truth) & (truth <= high)


def eight(gain: float, **how: Any) -> Design:
    """Makes a design of eight variants, four of which are truly better by `gain`."""
    return Design((gain,) * 4 + (0.0,) * 4, **how)


UNEQUAL = (3, 3, 2, 3, 2, 3, 2, 3, 2)
SUITED = 0.02

DESIGNS = {
    "a gain of 0.020": eight(0.02),
    "a gain of 0.015": eight(0.015),
    "a gain of 0.010": eight(0.01),
    "no gain": eight(0.0),
    "0.020, variants suit sequences": eight(0.02, suits=SUITED),
    "0.015, variants suit sequences": eight(0.015, suits=SUITED),
    "0.010, variants suit sequences": eight(0.01, suits=SUITED),
    "0.020, errors of t3": eight(0.02, heavy=True),
    "no gain, errors of t3": eight(0.0, heavy=True),
    "0.020, two seeds": eight(0.02, seeds=2),
    "no gain, two seeds": eight(0.0, seeds=2),
    "0.020, two or three seeds": eight(0.02, seeds=UNEQUAL),
    "no gain, two or three seeds": eight(0.0, seeds=UNEQUAL),
    "0.020, seeds unknown": eight(0.02, paired=False),
    "0.020, 12 photographs": eight(0.02, sequences=12),
    "no gain, 12 photographs": eight(0.0, sequences=12),
    "no gain, one scatters 2 times as far": eight(0.0, uneven=2.0),
    "no gain, one scatters 3 times as far": eight(0.0, uneven=3.0),
    "no gain, one scatters 5 times as far": eight(0.0, uneven=5.0),
    "no gain, one seed": eight(0.0, seeds=1),
}


@click.command()
@click.option(
    "--studies", type=click.IntRange(1), default=1000, show_default=True, help="Studies of each kind."
)
@click.option("--only", default="", help="Kinds whose name holds this text.")
def main(studies: int, only: str) -> None:
    """Simulate studies of eight variants and a baseline, 108 sequences of 5 pairs, 3 seeds."""
    table = Table(title=f"{studies} studies of each kind, p-values corrected by Holm", title_justify="left")
    for name in ("studies", "found", "a false verdict", "networks differ", "intervals hold"):
        table.add_column(name, justify="left" if name == "studies" else "right", no_wrap=True)
    console = make_console()
    console.print(
        f"The design can show {smallest_detectable(8, 3, 108):.4f} in 80 % of studies, by the formula."
    )
    with console.status("") as status:
        for name, design in DESIGNS.items():
            if only in name:
                status.update(name)
                outcome = simulate(design, studies)
                shares = (outcome.found, outcome.false, outcome.differing, outcome.covered)
                table.add_row(name, *("" if np.isnan(share) else f"{share:.1%}" for share in shares))
    console.print(table)


if __name__ == "__main__":
    main()
