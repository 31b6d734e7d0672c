"""Names sizes of a training, so that a sweep fits a machine without a list of settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from r2d2.config import SCRATCH
from search_spaces.sweep import Trial


@dataclass(frozen=True)
class Preset:
    """A Preset is the size of a training.

    Attributes:
        size: settings of every trial, with dotted keys.
        from_scratch: further ones if every trial starts from scratch: the network and what suits it. One that
            is fine-tuned has its own size, and large steps would destroy what it has learnt.
    """

    size: Mapping[str, object]
    from_scratch: Mapping[str, object]


_NARROW = {"network.channels": 1, "network.dim": 32, "optimiser.learning_rate": 3e-3}

PRESETS = {
    # Seconds of training a trial: shows that all works, and nothing about a loss.
    "small": Preset(
        {
            "data.crop_size": 96,
            "data.held_out": 3,
            "data.max_shorter_side": 512,
            "data.pairs_per_epoch": 64,
            "epochs": 1,
            "pairs_per_worker": 4,
        },
        _NARROW,
    ),
    # A minute or two a trial on two processors.
    "laptop": Preset(
        {
            "data.crop_size": 96,
            "data.held_out": 12,
            "data.max_shorter_side": 512,
            "data.pairs_per_epoch": 768,
            "epochs": 2,
            "pairs_per_worker": 4,
        },
        _NARROW,
    ),
}


def preset_overrides(name: str, trials: Sequence[Trial]) -> tuple[str, ...]:
    """Returns the `key.path=value` assignments of a preset; what the sweep varies is left as it is.

    Args:
        name: a key of PRESETS.
        trials: all of the sweep, or examples of what its searcher may choose.
    """
    preset = PRESETS[name]
    from_scratch = all(trial.config.init == SCRATCH for trial in trials)
    chosen = {**preset.size, **(preset.from_scratch if from_scratch else {})}
    flat = [trial.config.flat() for trial in trials]
    return tuple(f"{key}={value}" for key, value in chosen.items() if len({c[key] for c in flat}) == 1)
