"""Which settings learn most from the same few pairs?

One setting at a time is changed from a base, a network of 1 channel from scratch, 512 pairs each: 26 trials
of a minute of one processor each, and a few seconds for starting processes. Give it a hundred
photographs or more (--photos). Expect the learning rate and the number of steps to matter most; so short a
training says what learns early, not what ends best.
"""

from collections.abc import Mapping
from typing import Any

from search_spaces.sweep import Sweep

PAIRS = 512

_BASE: dict[str, Any] = {
    "network": {"channels": 1, "dim": 32},
    "data": {"crop_size": 96, "pairs_per_epoch": PAIRS},
    "optimiser": {"learning_rate": 3e-3, "schedule": "linear", "warmup_steps": 8},
    "pairs_per_worker": 4,
    "epochs": 1,
}

# What is still open first, what is expected to cost most last.
_CHANGES: tuple[dict[str, Any], ...] = (
    {},
    {"seed": 1},
    {"optimiser": {"learning_rate": 1e-3}},
    {"optimiser": {"learning_rate": 6e-3}},
    {"data": {"tilt": 0.25}},
    {"loss": {"query_stride": 4}},
    {"pairs_per_worker": 2},
    {"optimiser": {"schedule": "constant"}},
    {"optimiser": {"schedule": "cosine"}},
    {"pairs_per_worker": 8},
    {"data": {"min_shorter_side": 384, "max_shorter_side": 768}},
    {"loss": {"border": 8}},
    {"optimiser": {"learning_rate": 1e-2}},
    {"loss": {"similarity": "dice"}},
    {"loss": {"patch_size": 8}},
    {"optimiser": {"weight_decay": 0.0}},
    {"data": {"noise": 10.0}},
    {"optimiser": {"warmup_steps": 0}},
    {"seed": 2},
    {"loss": {"reliability": "hardnet", "kappa": 1.0}},
    {"loss": {"ap_floor": 0.3}},
    {"pairs_per_worker": 16},
    {"network": {"dim": 64}},
    {"data": {"crop_size": 128}},
    {"network": {"channels": 2, "dim": 64}},
    {"data": {"crop_size": 192}},
)


def _changed(base: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """The base with a change; groups of settings are changed entry by entry."""
    merged = dict(base)
    for key, value in change.items():
        merged[key] = {**base.get(key, {}), **value} if isinstance(value, Mapping) else value
    return merged


sweep = Sweep(space=[_changed(_BASE, change) for change in _CHANGES])
