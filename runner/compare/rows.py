"""Finds the row of a table that each trial belongs to, its baseline, and the metric that orders the rows.

`evaluation/report/report.py` (`ordered`) sorts the rows by it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from evaluation.benchmarks.hpatches import SPLITS
from evaluation.evaluation import OVERALL
from evaluation.metrics.pair_metrics import PAIR_METRICS, ranked
from r2d2.config import TrainConfig
from r2d2.unknown import unknown
from runner.record.definition import SweepDefinition
from runner.record.history import TRAIN
from search_spaces.sweep import Trial

# What a variant's name or the columns of the table say already.
IN_VARIANT = ("seed", "loss.reliability", "loss.similarity", "init")
# Between a row's own name and what others call it.
BESIDE = " · "


def label_trials(trials: Sequence[Trial], names: Mapping[str, str] | None = None) -> dict[str, str]:
    """Names the row of every trial, by its key: its variant, and what else varies among them but the seed.

    Args:
        trials: of the table.
        names: by variant, what others call it.
    """
    flat = [trial.config.flat() for trial in trials if trial.config.epochs]
    others = [name for name in TrainConfig().flat() if name not in IN_VARIANT]
    varied = [name for name in others if len({config[name] for config in flat}) > 1]
    labels = {}
    for trial in trials:
        # A starting network differs by its architecture only.
        shown = [name for name in varied if trial.config.epochs or name.startswith("network.")]
        settings = [f"{name.rpartition('.')[2]}={_short(trial.config.flat()[name])}" for name in shown]
        own, other = ", ".join([trial.variant, *settings]), (names or {}).get(trial.variant)
        labels[trial.key] = f"{own}{BESIDE}{other}" if other else own
    return labels


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def find_baselines(trials: Sequence[Trial], labels: Mapping[str, str], baseline: str) -> dict[str, str]:
    """Finds the row that each row is compared with, by row; rows without one are left out.

    Args:
        trials: of the table.
        labels: their rows, by key.
        baseline: as of `search_spaces.sweep.Sweep`.
    """
    trained = [trial for trial in trials if trial.config.epochs]
    baselines = [trial for trial in trained if _loss(trial) == baseline]
    if not baselines:
        named = [trial for trial in trials if baseline in _names(trial, labels[trial.key])]
        return dict.fromkeys(labels.values(), labels[named[0].key]) if named else {}
    found = {}
    for trial in trials:
        twins = [one for one in baselines if one.config.init == trial.config.init]
        if twins:
            nearest = min(twins, key=lambda one: _distance(one, trial))
            found[labels[trial.key]] = labels[nearest.key]
    return found


def find_row(text: str, rows: Collection[str]) -> str:
    """Finds the row that a person means: its name, the name of its variant alone, or what others call it.

    Raises:
        ValueError: if there is none, or several; names those there are.
    """
    found = [row for row in rows if row == text] or [row for row in rows if text in _parts(row)]
    if len(found) == 1:
        return found[0]
    if found:
        raise ValueError(f"the baseline '{text}' may be any of these rows: {'; '.join(found)}")
    raise ValueError(unknown("baseline", text, sorted(rows)))


def _names(trial: Trial, label: str) -> tuple[str, ...]:
    return (label, trial.variant, *_parts(label))


def _parts(row: str) -> tuple[str, ...]:
    """Returns a row's own name, that of its variant, and what others call it."""
    own, _, other = row.partition(BESIDE)
    return tuple(part for part in (own, own.partition(", ")[0], other) if part)


def _loss(trial: Trial) -> str:
    return f"{trial.config.loss.reliability}+{trial.config.loss.similarity}"


def _distance(baseline: Trial, trial: Trial) -> int:
    """Counts the settings in which two trials differ; a starting network has none but its network's."""
    mine, others = baseline.config.flat(), trial.config.flat()
    compared = mine if trial.config.epochs else [name for name in mine if name.startswith("network.")]
    return sum(mine[name] != others[name] for name in compared if name != "seed")


@dataclass(frozen=True)
class Ordering:
    """An Ordering names the metric that orders the rows of a comparison.

    Attributes:
        role: of the benchmark whose scores are compared; empty if it is not known.
        metric: with its role if that is known, e.g. `hpatches/mma_3px`, `train/loss_total`.
        mode: `min` or `max`.
    """

    role: str
    metric: str
    mode: str


def mode_of(metric: str, definition: SweepDefinition | None = None) -> str:
    """Returns `min` or `max`: as the sweep says, else `min` for a loss or an error."""
    if definition is not None and metric == definition.metric:
        return definition.mode
    name, _ = metric_and_split(metric.rpartition("/")[2])
    smaller = PAIR_METRICS[name].smaller_is_better if name in PAIR_METRICS else "loss" in name
    return "min" if smaller else "max"


def find_ordering(metric: str | None, role: str = "", definition: SweepDefinition | None = None) -> Ordering:
    """Finds the ordering from the metric and the benchmark that the user asked for.

    Args:
        metric: with or without its role; None: what decides the sweep.
        role: of the benchmark; empty: that of the metric, or of the sweep.
        definition: the sweep's; None outside of one.

    Raises:
        ValueError: if the metric belongs to another benchmark, or the sweep is not scored on it.
    """
    asked = metric or (definition.metric if definition else ranked()[0])
    of_metric, _, name = asked.rpartition("/")
    if metric is not None and role and of_metric not in ("", TRAIN, role):
        raise ValueError(f"--metric {metric} is a score on '{of_metric}', but --role is '{role}'")
    benchmark = role or ("" if of_metric == TRAIN else of_metric) or (definition.role if definition else "")
    if definition is not None and benchmark and benchmark not in definition.benchmarks:
        scored = ", ".join(definition.benchmarks) or "nothing"
        raise ValueError(f"sweep '{definition.name}' has no {benchmark}/{name}: it is scored on {scored}")
    full = asked if of_metric == TRAIN else f"{benchmark}/{name}".lstrip("/")
    return Ordering(benchmark, full, mode_of(full, definition))


def metric_and_split(name: str) -> tuple[str, str]:
    """Splits a metric's key into the key and the split behind it, `overall` if there is none."""
    for split in SPLITS:
        if name.endswith(f"_{split}"):
            return name.removesuffix(f"_{split}"), split
    return name, OVERALL
