"""Makes a report: compares variants and says in words what the comparison shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import get_args

from evaluation.evaluation import OVERALL
from evaluation.report.report import About, Report, chosen_examples, ordered
from evaluation.report.table import difference_interval, figure, heading
from evaluation.statistics.compare import COMPARED, compare, mean_curves
from evaluation.statistics.differences import Comparison, Difference, Verdict
from evaluation.statistics.power import (
    MOST_SEEDS,
    MOST_SEQUENCES,
    detectable,
    needed_seeds,
    needed_sequences,
    smallest_detectable,
)
from evaluation.statistics.resampling import REPLICATES
from evaluation.statistics.rounds import Decision
from evaluation.statistics.variants import Variant

CAUTION = "Choosing on HPatches is tuning on the test set: choose by a validation score."
ONE_SEED = (
    "Where a variant has one seed, its interval says what other images would do to these networks, not what "
    "another seed would do."
)
ROUNDS = (
    "Verdicts were reached round by round: their intervals are those of the round that decided, and wider "
    "than 95 % intervals, because every round was looked at."
)
NETWORKS = "One seed says nothing about a loss: what is compared here are single networks."

# With fewer sequences nobody sees how skewed scores are. Intervals of normal ones still hold the truth in 94
# to 97 % of simulated studies, but those of very skewed ones (exponential) in 87 to 92 %.
FEW_SEQUENCES = 5

# How many seeds are advised where there is one.
ADVISED_SEEDS = 3

SHOWN: tuple[Verdict, ...] = ("better", "worse")
OF_NETWORKS: tuple[Verdict, ...] = ("these networks differ", "seeds needed")


def make_report(
    variants: Sequence[Variant],
    baseline: str | Mapping[str, str],
    about: About,
    replicates: int = REPLICATES,
    decisions: Sequence[Decision] = (),
) -> Report:
    """Compares the rows that have scores and gathers what belongs to the comparison.

    Args:
        variants: the baselines among them, at least one; one without a score appears in the table only.
        baseline: the name of one of them, or of each variant's own, as `compare` takes them.
        about: what the report is about.
        replicates: how many draws of the bootstrap.
        decisions: on variants of a sweep that stops when it knows; they are the verdicts in the first figure.

    Raises:
        ValueError: as `compare`, and if the benchmark has no sequence of the split, or
            no variant the figure that the table is to be ordered by.
    """
    scored = [variant for variant in variants if variant.evaluations]
    if not scored:
        return Report(about, None, (), ordered(variants, about, None))
    metrics = COMPARED if about.metric in COMPARED else (about.metric, *COMPARED)
    compared = _decided(compare(scored, baseline, metrics, replicates), decisions, about)
    if about.split not in {row.split for row in compared.means}:
        raise ValueError(f"benchmark {compared.benchmark} has no {about.split} sequences")
    curves = mean_curves(scored, replicates)
    report = Report(about, compared, curves, ordered(variants, about, compared))
    return replace(
        report,
        examples=chosen_examples(report),
        answer=_answer(report),
        finding=_finding(report, compared),
        cautions=(
            *_cautions(report, compared),
            *([ROUNDS] if any(one.answer != "open" for one in decisions) else []),
        ),
    )


def _decided(compared: Comparison, decisions: Sequence[Decision], about: About) -> Comparison:
    """Replaces verdicts by what was decided round by round, of as many seeds as that took."""
    made = {one.variant: one for one in decisions if one.answer != "open"}

    def row(found: Difference) -> Difference:
        one = made.get(found.variant)
        if one is None or (found.metric, found.split, found.baseline) != (
            about.metric,
            about.split,
            one.baseline,
        ):
            return found
        assert one.answer != "open"
        return replace(
            found, estimate=one.estimate, low=one.low, high=one.high, p=None, p_holm=None, verdict=one.answer
        )

    return replace(compared, differences=tuple(row(found) for found in compared.differences))


def _finding(report: Report, compared: Comparison) -> str:
    """How many rows got which verdict."""
    rows = _rows(report)
    if not rows:
        return _unscored(report) or "There is nothing to compare it with."
    verdicts = [row.verdict for row in rows]
    counts = {verdict: verdicts.count(verdict) for verdict in get_args(Verdict)}
    words = ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)
    counted = f"Of {len(rows)} compared with {compared.baseline}: {words}."
    return f"{NETWORKS} {counted}" if set(verdicts) & set(OF_NETWORKS) else counted


def _answer(report: Report) -> tuple[str, str]:
    """Two sentences: who is highest and whether that is shown; what it would take to show it."""
    top = report.variants[0]
    row = report.difference(top.name)
    if row is None:
        # The baseline is the highest: the question is by how much it leads the next one.
        below = [found for variant in report.scored[1:] if (found := report.difference(variant.name))]
        row = next((found for found in below if found.baseline == top.name), None)
    highest = report.mean(top.name)
    assert highest is not None
    lead = f"{top.name} is {_superlative(report)}, {_first_figure(report)} {figure(highest.mean)}"
    if row is None:
        return f"{lead}; it is compared with nothing.", _comparable(report)
    return f"{lead}: {_shown(row, top.name)}", _needed(report, row)


def _unscored(report: Report) -> str:
    """Says that baselines have no score yet; empty if all have one."""
    missing = report.about.unscored
    if not missing:
        return ""
    names, one = " and ".join(missing), len(missing) == 1
    return f"{names}, the baseline{'s' * (not one)} of other rows, {'has' if one else 'have'} no score yet."


def _comparable(report: Report) -> str:
    """Says how the first row could be compared."""
    if len(report.scored) == 1 and not report.about.unscored:
        return "A second row would make a comparison."
    other = "--baseline ROW compares all rows with any other one." if len(report.scored) > 1 else ""
    return f"{_unscored(report)} {other}".strip()


def _cautions(report: Report, compared: Comparison) -> list[str]:
    """The sentences that every reader must know."""
    rows = compared.means
    few = {row.split: row.sequences for row in rows if row.sequences < FEW_SEQUENCES}
    on_hpatches = "hpatches" in (report.about.role, *compared.benchmark.lower().split("-"))
    on_hpatches |= any(key.startswith("hpatches/") for key in report.metrics)
    return [
        *([CAUTION] if on_hpatches else []),
        *([report.about.looks] if report.about.looks else []),
        *([ONE_SEED] if any(not row.covers_seeds for row in rows) else []),
        *([_few_sequences(few)] if few else []),
        *([_unscored(report)] if report.about.unscored and _rows(report) else []),
        *_unpaired(report),
        *(
            f"{heading(metric)} is compared without {count} pair{'s' * (count > 1)} for which a row lacks it."
            for metric, count in compared.left_out.items()
        ),
    ]


def _unpaired(report: Report) -> list[str]:
    """Says which rows are not compared seed by seed with their baseline."""
    seeds = {variant.name: variant.seeds for variant in report.variants}
    rows = [row for row in _rows(report) if row.covers_seeds and not row.same_seeds]
    named = [f"{row.variant} ({_of(seeds[row.variant])})" for row in rows]
    if not rows:
        return []
    others = " and ".join(
        f"{name} ({_of(seeds[name])})" for name in dict.fromkeys(row.baseline for row in rows)
    )
    return [f"Not compared seed by seed with {others}, which widens intervals: {', '.join(named)}."]


def _of(seeds: Sequence[int] | None) -> str:
    if seeds is None:
        return "seeds unknown"
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, sorted(seeds)))}"


def _rows(report: Report) -> list[Difference]:
    return [row for variant in report.variants if (row := report.difference(variant.name)) is not None]


def _superlative(report: Report) -> str:
    if report.about.sort_by:
        return "first in the table"
    return "lowest" if report.about.ascending else "highest"


def _first_figure(report: Report) -> str:
    split = report.about.split
    return heading(report.about.metric) + ("" if split == OVERALL else f" {split}")


def _shown(row: Difference, top: str) -> str:
    """Says whether the first row's lead over another one is shown; the rest of a sentence."""
    other = row.baseline if top == row.variant else row.variant
    lead = f"its lead of {figure(abs(row.estimate))} over {other} is"
    within = f"95 % interval {difference_interval(row)}" if row.low is not None else "no interval"
    within = f"({row.variant} - {row.baseline}: {within})"
    if row.verdict in SHOWN:
        return f"{lead} shown {within}."
    reasons: Mapping[Verdict, str] = {
        "no difference shown": f"{lead} not shown {within}.",
        "equivalent": f"{other} is equivalent {within}.",
        "undecided": f"{lead} undecided {within}.",
        "these networks differ": f"these networks differ, but one seed does not show that it leads {other}.",
        "seeds needed": f"one seed does not show that it leads {other}.",
        "unequal training": f"no verdict, for it and {other} were not trained alike.",
        "collapsed": f"no verdict, for {row.variant} has collapsed.",
        "baseline collapsed": f"no verdict, for {row.baseline} has collapsed.",
    }
    return reasons[row.verdict]


def _needed(report: Report, row: Difference) -> str:
    """Says what it would take to show the difference."""
    if row.verdict == "unequal training":
        spoilt = [e.name for e in report.variants if e.warnings and e.name in (row.variant, row.baseline)]
        if spoilt:
            return f"Train {' and '.join(spoilt)} again: the warnings say what spoilt the training."
        return "To compare them, train both for the same number of epochs."
    if row.verdict in ("collapsed", "baseline collapsed"):
        return "A collapsed network answers nothing: mend its training or leave it out."
    compared = len(report.baselines)
    if row.verdict in OF_NETWORKS:
        least = smallest_detectable(compared, ADVISED_SEEDS, row.sequences)
        usual = f"; that shows gains of about {figure(least)} MMA or more" if "mma" in row.metric else ""
        return f"To compare the losses, train every row with {ADVISED_SEEDS} seeds{usual}."
    if row.variances is None:
        return "To show anything, score more than one sequence."
    sides = (report.mean(name) for name in (row.variant, row.baseline))
    seeds = min(side.seeds for side in sides if side is not None)
    size = figure(abs(row.estimate))
    smallest = figure(detectable(row.variances, compared, seeds, row.sequences))
    table = f"This table ({seeds} seeds, {row.sequences} sequences)"
    shows = f"{table} shows differences of about {smallest} or more."
    if row.verdict in SHOWN:
        return shows
    if size == figure(0) or abs(row.estimate) < row.variances.error(seeds, row.sequences) / 2:
        return f"There is nothing to show: so small a difference is as good as none. {shows}"
    more = needed_seeds(row.estimate, row.variances, compared, row.sequences)
    images = needed_sequences(row.estimate, row.variances, compared, seeds)
    ways = [f"{more} seeds instead of {seeds}"] if more is not None and more > seeds else []
    ways += [f"{images} sequences instead of {row.sequences}"] if images and images > row.sequences else []
    if more is not None and not ways:
        return (
            f"{seeds} seeds show a difference of {size} in 80 of 100 studies: more seeds may show this one."
        )
    if not ways:
        most = f"{MOST_SEEDS} seeds nor {MOST_SEQUENCES:,} sequences"
        return f"Neither {most} would show a difference of {size}."
    return f"To show a difference of {size} takes about {' or '.join(ways)}."


def _few_sequences(counts: Mapping[str, int]) -> str:
    named = ", ".join(f"{split} {count}" for split, count in counts.items())
    none = " From a single sequence there is none." if 1 in counts.values() else ""
    return (
        f"Intervals from fewer than {FEW_SEQUENCES} sequences ({named}) are unreliable: so few do not show "
        f"how skewed scores are.{none}"
    )
