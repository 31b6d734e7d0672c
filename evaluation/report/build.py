"""Builds a report: compares variants and gathers what belongs to the comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from evaluation.pictures.examples import MatchExample
from evaluation.report.findings import ROUNDS, answer, cautions, finding
from evaluation.report.report import About, Report
from evaluation.statistics.compare import COMPARED, compare, mean_curves
from evaluation.statistics.differences import Comparison, Difference
from evaluation.statistics.resampling import REPLICATES
from evaluation.statistics.rounds import Decision
from evaluation.statistics.variants import Variant


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
        return Report(about, None, (), _ordered(variants, about, None))
    metrics = COMPARED if about.metric in COMPARED else (about.metric, *COMPARED)
    compared = _decided(compare(scored, baseline, metrics, replicates), decisions, about)
    if about.split not in {row.split for row in compared.means}:
        raise ValueError(f"benchmark {compared.benchmark} has no {about.split} sequences")
    curves = mean_curves(scored, replicates)
    report = Report(about, compared, curves, _ordered(variants, about, compared))
    return replace(
        report,
        examples=_examples(report),
        answer=answer(report),
        finding=finding(report),
        cautions=(*cautions(report), *([ROUNDS] if any(one.answer != "open" for one in decisions) else [])),
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


def _shortly_trained(variants: Sequence[Variant]) -> set[str]:
    """Those of fewer epochs than others, against which they cannot be ranked."""
    most = max((epochs for one in variants for epochs in one.epochs), default=0)
    return {one.name for one in variants if 0 < min(one.epochs, default=0) < most and not one.as_asked}


def _ordered(variants: Sequence[Variant], about: About, compared: Comparison | None) -> tuple[Variant, ...]:
    """The rows, the best first; rows of fewer epochs stand below, those without a figure last."""
    key = about.sort_by
    if key and not any(key in one.figures for one in variants):
        known = {row.metric for row in compared.means} if compared is not None else set()
        known |= {figure for one in variants for figure in one.figures}
        raise ValueError(f"no variant has a figure '{key}'; known: {', '.join(sorted(known))}")
    ranked = variants if compared is None else [one for one in variants if one.evaluations]
    below = _shortly_trained(ranked)

    def place(one: Variant) -> tuple[bool, bool, float]:
        figure = one.figures.get(key)
        if compared is not None and not one.evaluations:
            figure = None
        elif compared is not None and not key:
            figure = compared.mean(one.name, about.metric, about.split).mean
        if figure is None:
            return True, one.name in below, 0.0
        return False, one.name in below, figure if about.ascending else -figure

    return tuple(sorted(variants, key=place))


def _examples(report: Report) -> tuple[tuple[str, MatchExample], ...]:
    """An easy and a hard pair, matched by the best variant, the baseline and the worst one."""
    by_name = {entry.name: entry.evaluations[0].examples for entry in report.scored}
    order = list(by_name)
    chosen = {order[0], *list(report.baselines.values())[:1], order[-1]}
    kept = [(name, by_name[name]) for name in order if name in chosen]
    pairs = sorted({(e.sequence, e.image) for _, examples in kept for e in examples})
    shown = dict.fromkeys(pairs[:1] + pairs[-1:])
    return tuple(
        (name, example)
        for pair in shown
        for name, examples in kept
        for example in examples
        if (example.sequence, example.image) == pair
    )
