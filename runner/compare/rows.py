"""Finds the row of a table that each trial belongs to, and the row that each row is compared with."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from r2d2.config import TrainConfig
from r2d2.unknown import unknown
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
