"""Says how a reproduction came out: identical, within the seeds' noise, or different, and because of what."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from evaluation.statistics.contrasts import pool
from r2d2.formats.stored_json import parse_json
from runner.compare.report import USUAL_SPREAD, known_spread
from runner.record.history import TRAIN, History, Record
from runner.reproduce.differences import Difference
from runner.reproduce.target import Target, scores_by_variant
from runner.settings import Settings

IDENTICAL, NOISE, DIFFERS = "identical", "within the seeds' noise", "differs"
LEVEL = 0.95
# Differences that are printed.
SHOWN = 20
# Of an event: how fast it was, and where its files are.
_SPEED = ("train/pairs_per_second", "worker/")
# Of a table, what must be the same, and what it is called.
_WORDS = {
    "model_digest": "the weights",
    "protocol_digest": "the protocol",
    "benchmark_digest": "the benchmark",
    "pairs": "the scores of the pairs",
}


@dataclass(frozen=True)
class SeedNoise:
    """A SeedNoise says how far apart two trainings of one variant with different seeds are.

    Attributes:
        half: half the width of the 95 % interval of a difference, in the unit of the metric; None: unknown.
        source: in words.
    """

    half: float | None
    source: str


@dataclass(frozen=True)
class Answer:
    """An Answer says how a reproduction came out.

    Attributes:
        verdict: `identical`, `within the seeds' noise` or `differs`.
        training: in words, which one was reproduced.
        metric, epoch: what decides.
        was, now: its value then, and in the reproduction.
        first: the first event that came out otherwise; empty: none.
        noise: of the seeds.
        code: whose code trained, in words.
        differences: all that was recorded and differs.
    """

    verdict: str
    training: str
    metric: str
    epoch: int
    was: float
    now: float
    first: str
    noise: SeedNoise
    code: str
    differences: tuple[Difference, ...]

    @property
    def interval(self) -> tuple[float, float] | None:
        """Returns the 95 % interval of the difference; None if that or the noise is unknown or not finite."""
        half, value = self.noise.half, self.now - self.was
        return (value - half, value + half) if half is not None and np.isfinite(value + half) else None

    def to_json(self) -> dict[str, Any]:
        """Returns the answer as what `json.dumps` takes; a figure that is not finite is None."""
        figures = {"was": self.was, "now": self.now, "difference": self.now - self.was}
        finite = {name: value if np.isfinite(value) else None for name, value in figures.items()}
        return {**asdict(self), **finite, "interval": self.interval, "noise": self.noise.source}

    def lines(self) -> list[str]:
        """Returns the answer in sentences."""
        listed = [f"  {one}" for one in self.differences[:SHOWN]]
        if len(self.differences) > SHOWN:
            listed.append(f"  and {len(self.differences) - SHOWN} more, which --json lists")
        recorded = ["Recorded differences:", *listed] if listed else ["Nothing that was recorded differs."]
        trained = f"Trained with {self.code}."
        if self.verdict == IDENTICAL:
            figure = f"{self.metric} {self.was:.4f} at epoch {self.epoch}"
            told = f"identical, bit for bit: {self.training}, weights and scores of every epoch, {figure}."
            return [told, trained, *recorded]
        last = [self._figures(), f"The first difference is {self.first}. {trained}"]
        if self.verdict == NOISE:
            return [f"within the seeds' noise: {self.training}.", *recorded, *last]
        because = " because of what follows" if listed else ", and nothing that was recorded differs"
        return [f"differs{because}: {self.training}.", *listed, *last]

    def _figures(self) -> str:
        value = self.now - self.was
        told = f"{self.metric} at epoch {self.epoch} was {self.was:.4f}, is {self.now:.4f} ({value:+.4f})"
        if not np.isfinite(value):
            return f"{told}."
        if self.interval is None:
            return f"{told}; the noise of seeds is unknown: {self.noise.source}."
        low, high = self.interval
        holds = "holds 0" if low <= 0 <= high else "does not hold 0"
        interval = f"the 95 % interval of the difference, {low:+.4f} to {high:+.4f}, {holds}"
        return f"{told}; {interval} ({self.noise.source})."


def verdict_of(value: float, first: str, noise: SeedNoise) -> str:
    """Returns the verdict on a reproduction.

    Args:
        value: the difference of the deciding figure.
        first: the first event that came out otherwise; empty: none.
        noise: of the seeds.
    """
    if not first:
        return IDENTICAL
    return NOISE if noise.half is not None and abs(value) <= noise.half else DIFFERS


def first_difference(was: History, now: History) -> str:
    """Finds the first event of a training that came out otherwise in another; empty if none did."""
    for record in (record for record in was.records() if record.error is None):
        before, after = (_figures_of(history, record) for history in (was, now))
        changed = [key for key, value in before.items() if not _same(value, after.get(key))]
        if changed:
            return f"{_WORDS.get(changed[0], changed[0])} in '{record.kind}' of epoch {record.epoch}"
    return ""


def _figures_of(history: History, event: Record) -> dict[str, Any]:
    """What must be the same of an event: of its table, and its own figures but those of speed."""
    record, table = history.find(event.epoch, event.kind), read_table(history, event.epoch, event.kind)
    metrics = {} if record is None else record.metrics
    own = {key: value for key, value in metrics.items() if not key.startswith(_SPEED)}
    return {key: table[key] for key in _WORDS if key in table} | own


def require_tables(target: Target) -> None:
    """Looks for the table of each score, which has the digest of the weights, before anything is trained.

    Raises:
        ValueError: if one is gone or damaged, or there is no score.
    """
    scores = [one for one in target.history.records() if one.error is None and one.kind != TRAIN]
    for score in scores:
        if not _WORDS.keys() <= read_table(target.history, score.epoch, score.kind).keys():
            raise ValueError(
                f"the table of '{score.kind}' of epoch {score.epoch} of {target} is gone or lacks fields, so "
                "its weights and scores cannot be compared"
            )
    if not scores:
        raise ValueError(f"{target} has no score, so its weights cannot be compared")


def read_table(history: History, epoch: int, kind: str) -> dict[str, Any]:
    """Reads the table of a score as it is stored; empty if there is none (any more)."""
    record = history.find(epoch, kind)
    name = None if record is None else record.evaluation
    content = None if name is None else history.store.read(name)
    return {} if content is None else parse_json(content, f"{history.store.place}/{name}", dict)


def _same(one: Any, other: Any) -> bool:
    # As text, in which NaN is equal to NaN, and every digit counts.
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def noise_of(target: Target, settings: Settings) -> SeedNoise:
    """Finds how far apart two seeds of the target's variant are, as its sweep shows, or else another one.

    Args:
        target: the training.
        settings: where other sweeps are.
    """
    own = seed_noise(scores_by_variant(target))
    definition = target.sweep.definition
    if own.half is not None or definition.metric.startswith(TRAIN):
        return own
    spread = known_spread(settings, definition)
    if spread is USUAL_SPREAD and "mma_" not in definition.metric:
        return own
    part, pairs = spread.variances, read_table(target.history, target.epoch, definition.role)["pairs"]
    half = 1.96 * float(np.sqrt(part.seed + part.cell / len({pair["sequence"] for pair in pairs})))
    return SeedNoise(half, f"by the spread of scores {spread.source}, as {own.source}")


def seed_noise(scores: Mapping[str, Sequence[float]]) -> SeedNoise:
    """Estimates the noise from scores of several seeds, pooled over variants that scatter alike.

    Args:
        scores: of each seed by variant, the reproduced variant first.
    """
    # scipy costs a tenth of a second, which the command line need not wait for.
    from scipy.special import stdtrit

    # A training that diverged has no finite score.
    finite = [np.array([value for value in values if np.isfinite(value)]) for values in scores.values()]
    several, own = [values[:, None] for values in finite if len(values) > 1], finite[0]
    if len(own) < 2:
        return SeedNoise(None, "fewer than two seeds of the variant have a score in its sweep")
    variance, degrees, source = float(own.var(ddof=1)), len(own) - 1.0, f"by {len(own)} seeds of the variant"
    pooled = pool(several, paired=False) if len(several) > 2 else None
    if pooled is not None and pooled.members[0, 0]:
        variance, degrees = float(pooled.variance[0]), float(pooled.degrees[0])
        source = f"by the seeds of {int(pooled.members[:, 0].sum())} variants of its sweep"
    return SeedNoise(float(stdtrit(degrees, (1 + LEVEL) / 2)) * float(np.sqrt(2 * variance)), source)
