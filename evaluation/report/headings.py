"""Metric keys and figures, as people write them: `mma_3px` is MMA@3."""

from __future__ import annotations

import re

from evaluation.statistics.comparison import Difference, Mean

_ABBREVIATIONS = {"mma": "MMA", "mha": "MHA", "auc": "AUC", "dlt": "DLT", "poselib": "PoseLib", "std": "std"}


def heading(key: str) -> str:
    """A key without its role as a heading, e.g. `MMA@3`, `AUC@5 PoseLib`, `localisation error (px)`."""
    at_pixels = re.sub(r"^([a-z_]+)_(\d+)px", r"\1@\2", key)
    in_pixels = re.sub(r"_px$", " (px)", at_pixels)
    words = in_pixels.replace("_", " ").split(" ")
    return " ".join(_word(word) for word in words)


def _word(word: str) -> str:
    name, at, threshold = word.partition("@")
    return _ABBREVIATIONS.get(name, name) + at + threshold


def figure(value: float, sign: str = "") -> str:
    """A figure as tables show it: three decimals, none if it is large; with `+` as sign, of a difference."""
    return f"{value:{sign}.0f}" if abs(value) >= 100 else f"{value:{sign}.3f}"


def interval(mean: Mean) -> str:
    """The 95 % interval of a mean; empty with a single sequence."""
    return "" if mean.low is None or mean.high is None else f"{figure(mean.low)} to {figure(mean.high)}"


def difference_interval(row: Difference) -> str:
    """The 95 % interval of a difference; empty with a single sequence."""
    return "" if row.low is None or row.high is None else f"{figure(row.low, '+')} to {figure(row.high, '+')}"


def p_value(p: float | None) -> str:
    """A p-value as tables show it; empty if there is none."""
    if p is None:
        return ""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
