"""Terms of the field, each explained in one sentence where a person meets it."""

from __future__ import annotations

import re

# What is looked for in a text, and what is said of it.
_TERMS = (
    ("MMA", "MMA@t: mean matching accuracy, the share of matches within t pixels of the true place."),
    ("MHA", "MHA@t: the share of image pairs whose homography puts the corners within t pixels, on average."),
    ("AUC", "AUC@t: the area under the curve of MHA from 0 to t pixels, as a share."),
    ("DLT", "DLT: direct linear transform, a homography fitted to all matches by least squares."),
    ("PoseLib", "PoseLib: a homography that leaves wrong matches out (RANSAC), by the library of that name."),
    (
        "repeatability@",
        "repeatability@t: the share of keypoints found again in the other image, within t pixels.",
    ),
    ("localisation error", "localisation error: how far such keypoints lie apart, those within 3 pixels."),
    ("matching score", "matching score: the share of keypoints that are matched correctly, within 3 pixels."),
    ("±", "±: the standard deviation over seeds."),
    ("95 %", "95 % interval: where the true value lies in 95 of 100 such studies."),
    (
        "Holm",
        "p (Holm): how often equal variants would differ by as much by chance, corrected for the number of "
        "comparisons by Holm's method.",
    ),
    ("protocol", "protocol: the agreement on how features are extracted, matched and scored."),
    (
        "digest",
        "digest: letters and digits made of all settings or files (SHA-256), shortened in brackets; equal "
        "ones mean equal settings or files.",
    ),
)


def explained(text: str) -> list[str]:
    """The sentences on the terms that a text uses, in a fixed order.

    `AUC` stands on `MHA`, and a protocol is named with its digest: where one is explained, the other is too.
    """
    found = {term for term, _ in _TERMS if re.search(rf"(?<!\w){re.escape(term)}", text)}
    found |= {"MHA"} if "AUC" in found else set()
    found |= {"digest"} if re.search(r"protocol \S+ \([0-9a-f]+\)", text) else set()
    return [sentence for term, sentence in _TERMS if term in found]
