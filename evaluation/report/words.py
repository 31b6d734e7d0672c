"""Writes metric keys and figures as people write them, and explains the terms of the field."""

from __future__ import annotations

import re

from evaluation.statistics.comparison import Difference, Mean

_ABBREVIATIONS = {"mma": "MMA", "mha": "MHA", "auc": "AUC", "dlt": "DLT", "poselib": "PoseLib", "std": "std"}


def heading(key: str) -> str:
    """Turns a key without its role into a heading: `MMA@3`, `AUC@5 PoseLib`, `localisation error (px)`."""
    at_pixels = re.sub(r"^([a-z_]+)_(\d+)px", r"\1@\2", key)
    in_pixels = re.sub(r"_px$", " (px)", at_pixels)
    words = in_pixels.replace("_", " ").split(" ")
    return " ".join(_word(word) for word in words)


def metric_heading(key: str) -> str:
    """Returns a figure's heading with its role: `AUC@3 DLT`, `hpatches MMA@3`, `loss peakiness`."""
    role, _, name = key.rpartition("/")
    words = heading(name.removeprefix("loss_"))
    return f"{'loss' if role == 'train' else role} {words}".strip()


def _word(word: str) -> str:
    name, at, threshold = word.partition("@")
    return _ABBREVIATIONS.get(name, name) + at + threshold


def figure(value: float, sign: str = "") -> str:
    """Formats a figure for tables: three decimals, none if it is large; `+` before a positive difference."""
    return f"{value:{sign}.0f}" if abs(value) >= 100 else f"{value:{sign}.3f}"


def interval(mean: Mean) -> str:
    """Formats the 95 % interval of a mean; empty with a single sequence."""
    return "" if mean.low is None or mean.high is None else f"{figure(mean.low)} to {figure(mean.high)}"


def difference_interval(row: Difference) -> str:
    """Formats the 95 % interval of a difference; empty with a single sequence."""
    return "" if row.low is None or row.high is None else f"{figure(row.low, '+')} to {figure(row.high, '+')}"


def p_value(p: float | None) -> str:
    """Formats a p-value as tables show it; empty if there is none."""
    if p is None:
        return ""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


# A term that a text may use, and its explanation.
_TERMS = (
    ("MMA", "MMA@t: mean matching accuracy, the share of matches within t pixels of the true position."),
    ("MHA", "MHA@t: the share of image pairs whose homography puts the corners within t pixels, on average."),
    ("AUC", "AUC@t: the area under the curve of MHA from 0 to t pixels, as a share."),
    ("DLT", "DLT: direct linear transform, a homography fitted to all matches by least squares."),
    ("PoseLib", "PoseLib: a homography that leaves wrong matches out (RANSAC), by the library of that name."),
    (
        "repeatability@",
        "repeatability@t: the share of keypoints found again in the other image, within t pixels.",
    ),
    (
        "localisation error",
        "localisation error: the mean distance of keypoints found again within 3 pixels, in pixels.",
    ),
    ("matching score", "matching score: the share of keypoints that are matched correctly, within 3 pixels."),
    ("±", "±: the standard deviation over seeds."),
    ("95 %", "95 % interval: where the true value lies in 95 of 100 such studies."),
    (
        "Holm",
        "p (Holm): the probability that equal variants differ by as much by chance, corrected for the number "
        "of comparisons by Holm's method.",
    ),
    ("protocol", "protocol: how features are extracted, matched and scored, with all settings."),
    (
        "digest",
        "digest: the SHA-256 of all settings or files, shortened in brackets; equal digests mean equal "
        "settings or files.",
    ),
)


def explained(text: str) -> list[str]:
    """Returns the sentences on the terms that a text uses, in a fixed order.

    An explanation of `AUC` brings that of `MHA`, by which it is defined, and that of a protocol brings that
    of its digest.
    """
    found = {term for term, _ in _TERMS if re.search(rf"(?<!\w){re.escape(term)}", text)}
    found |= {"MHA"} if "AUC" in found else set()
    found |= {"digest"} if re.search(r"protocol \S+ \([0-9a-f]+\)", text) else set()
    return [sentence for term, sentence in _TERMS if term in found]
