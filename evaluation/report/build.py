"""Builds a report: compares variants and gathers what belongs to the comparison."""

from __future__ import annotations

import math
import statistics
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from evaluation.benchmarks.hpatches import SPLITS
from evaluation.pictures.examples import MatchExample
from evaluation.report.findings import answer, cautions, finding
from evaluation.report.report import About, Entry, Report
from evaluation.statistics.bootstrap import REPLICATES
from evaluation.statistics.compare import COMPARED, compare, mean_curves
from evaluation.statistics.comparison import Comparison
from evaluation.statistics.variants import Variant


def make_report(
    variants: Sequence[Variant],
    baseline: str | Mapping[str, str],
    about: About,
    figures: Mapping[str, Sequence[Mapping[str, float]]] | None = None,
    replicates: int = REPLICATES,
) -> Report:
    """Compares variants and gathers what belongs to the comparison.

    Args:
        variants: the baselines among them, at least one.
        baseline: the name of one of them, or of each variant's own, as `compare` takes them.
        about: what the report is about.
        figures: by variant, further figures of each of its networks, e.g. `train/loss_peakiness`.
        replicates: how many draws of the bootstrap.

    Raises:
        ValueError: as `compare`, and if the benchmark has no sequence of the split, or
            no variant the figure that the table is to be ordered by.
    """
    metrics = COMPARED if about.metric in COMPARED else (about.metric, *COMPARED)
    compared = compare(variants, baseline, metrics, replicates)
    known = {row.split for row in compared.means}
    if about.split not in known:
        raise ValueError(f"benchmark {compared.benchmark} has no {about.split} sequences")
    entries = [_entry(variant, (figures or {}).get(variant.name, ())) for variant in variants]
    report = Report(
        about,
        compared,
        mean_curves(variants, replicates),
        _ordered(entries, about, compared, _shortly_trained(variants)),
    )
    return replace(
        report,
        examples=_examples(report, variants),
        answer=answer(report),
        finding=finding(report),
        cautions=tuple(cautions(report)),
    )


def _entry(variant: Variant, figures: Sequence[Mapping[str, float]]) -> Entry:
    further = figures or [{}] * len(variant.evaluations)
    own = [
        {key: value for key, value in scored.scalars().items() if not _is_shown_elsewhere(key)}
        for scored in variant.evaluations
    ]
    values: dict[str, list[float]] = {}
    for found in (dict(mine) | dict(others) for mine, others in zip(own, further, strict=True)):
        for key, value in found.items():
            if math.isfinite(value):
                values.setdefault(key, []).append(value)
    return Entry(
        name=variant.name,
        epochs="-".join(map(str, sorted({min(variant.epochs), max(variant.epochs)})))
        if variant.epochs
        else "",
        networks=tuple((scored.model, scored.model_digest) for scored in variant.evaluations),
        seeds=variant.seeds,
        figures={key: statistics.fmean(found) for key, found in values.items()},
        deviations={key: statistics.stdev(found) for key, found in values.items() if len(found) > 1},
        warnings=variant.warnings,
        remarks=tuple(dict.fromkeys(remark for scored in variant.evaluations for remark in scored.warnings)),
    )


def _is_shown_elsewhere(key: str) -> bool:
    """MMA has intervals and tables of its own; the splits of other figures would fill the page."""
    return key.startswith("mma_") or key.endswith(tuple(f"_{split}" for split in SPLITS))


def _shortly_trained(variants: Sequence[Variant]) -> set[str]:
    """Those of fewer epochs than others, against which they cannot be ranked."""
    most = max((epochs for one in variants for epochs in one.epochs), default=0)
    return {one.name for one in variants if 0 < min(one.epochs, default=0) < most and not one.as_asked}


def _ordered(
    entries: Sequence[Entry], about: About, compared: Comparison, below: Collection[str]
) -> tuple[Entry, ...]:
    key = about.sort_by
    if key and not any(key in entry.figures for entry in entries):
        known = sorted(
            {row.metric for row in compared.means} | {k for entry in entries for k in entry.figures}
        )
        raise ValueError(f"no variant has a figure '{key}'; known: {', '.join(known)}")

    sign = 1 if about.ascending else -1

    def place(entry: Entry) -> float:
        if not key:
            return sign * compared.mean(entry.name, about.metric, about.split).mean
        return sign * entry.figures.get(key, math.inf)

    return tuple(
        sorted(entries, key=lambda e: (e.name in below, bool(key) and key not in e.figures, place(e)))
    )


def _examples(report: Report, variants: Sequence[Variant]) -> tuple[tuple[str, MatchExample], ...]:
    """An easy and a hard pair, matched by the best variant, the baseline and the worst one."""
    order = [entry.name for entry in report.entries]
    baselines = list(report.comparison.baselines.values())[:1]
    chosen = list(dict.fromkeys([order[0], *baselines, order[-1]]))
    by_name = {variant.name: variant.evaluations[0].examples for variant in variants}
    kept = [(name, by_name[name]) for name in sorted(chosen, key=order.index)]
    pairs = sorted({(e.sequence, e.image) for _, examples in kept for e in examples})
    shown = dict.fromkeys(pairs[:1] + pairs[-1:])
    return tuple(
        (name, example)
        for pair in shown
        for name, examples in kept
        for example in examples
        if (example.sequence, example.image) == pair
    )
