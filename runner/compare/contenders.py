"""Contender: one network that takes part in a comparison, and how contenders become variants."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from evaluation.evaluation import Evaluation
from evaluation.report.report import TrainingCurve
from evaluation.statistics.variants import Variant


@dataclass(frozen=True)
class Contender:
    """One network.

    Attributes:
        variant: the row it belongs to.
        evaluation: its scores.
        origin: where it was found: the sweep, the file, or the name that was given to it.
        seed: it was trained with; None if that is unknown.
        epoch: its last; None if that is unknown.
        as_asked: whether it is complete, and the number of epochs is what rows were made to differ in.
        figures: what else is known of it, e.g. `train/loss_peakiness`.
        collapsed: whether its maps say the same of every pixel.
        warnings: what spoils its figures, in sentences.
        curves: metric -> epoch and value, by epoch.
    """

    variant: str
    evaluation: Evaluation
    origin: str
    seed: int | None = None
    epoch: int | None = None
    as_asked: bool = False
    figures: Mapping[str, float] = field(default_factory=dict)
    collapsed: bool = False
    warnings: tuple[str, ...] = ()
    curves: Mapping[str, tuple[tuple[int, float], ...]] = field(default_factory=dict)


def told_apart(contenders: Sequence[Contender]) -> list[Contender]:
    """Each network once in a variant; variants of the same name that are not the same get their origin.

    Two sweeps may have trained the same seed of the same variant to different ends (on other photographs, by
    other code): what agrees in name only must not share a row.
    """
    unique: dict[tuple[str, str], Contender] = {}
    for contender in contenders:
        unique.setdefault((contender.variant, contender.evaluation.model_digest), contender)
    kept = list(unique.values())
    seeds = Counter((c.variant, c.seed) for c in kept if c.seed is not None)
    origins = Counter(variant for variant, _ in {(c.variant, c.origin) for c in kept if c.seed is None})
    clashes = {variant for (variant, _), times in seeds.items() if times > 1}
    clashes |= {variant for variant, times in origins.items() if times > 1}
    return [replace(c, variant=f"{c.variant} [{c.origin}]") if c.variant in clashes else c for c in kept]


def variants_of(contenders: Sequence[Contender]) -> list[Variant]:
    """The rows of a table, in the order of their first contenders.

    Raises:
        ValueError: if contenders of one variant were not judged alike, or share a seed.
    """
    return [
        Variant(
            name,
            tuple(c.evaluation for c in members),
            _seeds(members),
            epochs=tuple(c.epoch for c in members if c.epoch is not None),
            as_asked=all(c.as_asked for c in members),
            collapsed=any(c.collapsed for c in members),
            warnings=tuple(dict.fromkeys(w for c in members for w in c.warnings)),
        )
        for name, members in _by_variant(contenders).items()
    ]


def figures_of(contenders: Sequence[Contender]) -> dict[str, list[Mapping[str, float]]]:
    """What else is known of the networks of each variant."""
    return {name: [c.figures for c in members] for name, members in _by_variant(contenders).items()}


def curves_of(contenders: Sequence[Contender]) -> tuple[TrainingCurve, ...]:
    """The training curves of all contenders, figure by figure."""
    metrics = dict.fromkeys(metric for c in contenders for metric in c.curves)
    return tuple(
        TrainingCurve(c.variant, c.seed, metric, c.curves[metric])
        for metric in metrics
        for c in contenders
        if metric in c.curves
    )


def _by_variant(contenders: Sequence[Contender]) -> dict[str, list[Contender]]:
    groups: dict[str, list[Contender]] = {}
    for contender in contenders:
        groups.setdefault(contender.variant, []).append(contender)
    return groups


def _seeds(members: Sequence[Contender]) -> tuple[int, ...] | None:
    known = tuple(c.seed for c in members if c.seed is not None)
    return known if len(known) == len(members) else None
