"""Metric keys, as people write them: `mma_3px` is MMA@3."""

from __future__ import annotations

import re

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
