"""Labels: the row of a table that each trial belongs to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from r2d2.config import TrainConfig
from search_spaces.sweep import Trial

# What a variant's name or the columns of the table say already.
IN_VARIANT = ("seed", "loss.reliability", "loss.similarity", "init")
# Between a row's own name and what others call it.
BESIDE = " · "


def label_trials(trials: Sequence[Trial], names: Mapping[str, str] | None = None) -> dict[str, str]:
    """The row of every trial, by its key: its variant, and what else varies among them but the seed.

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
