"""Reads `data.sources`: `NAME=PLACE`, several with commas, each perhaps with `*WEIGHT`.

`web=s3://bucket/web, style=/data/aachen*2`: every web photograph once an epoch, every style transfer twice.
`wasf=/data` is short for the classic mix in its usual folders below one place; see `CLASSIC`.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

from r2d2.data.photos import SAMPLES
from r2d2.data.sources import SOURCES
from r2d2.data.sources.web import CLASSIC_COUNT
from r2d2.storage.location import absolute_place
from r2d2.unknown import unknown

WASF = "wasf"

# (source, folder, items of an epoch; 0: all): of the originals 3,125 + 4,479 + 3,636 + 4,770 = 16,010 pairs.
CLASSIC = (
    ("web", "revisitop1m", CLASSIC_COUNT),
    ("aachen", "aachen", 0),
    ("style", "aachen", 0),
    ("flow", "aachen", 0),
)

_EXAMPLE = "write NAME=PLACE, several with commas, e.g. web=s3://bucket/web, style=/data/aachen*2"


@dataclass(frozen=True)
class SourceText:
    """A SourceText is one source as it was written.

    Attributes:
        label: its name; "photos-2" if it is the second of that name.
        name: of the kind of source.
        place: a folder, or `s3://bucket/prefix`.
        weight: how often each item comes in an epoch.
        at_most: items of an epoch before weighting; 0: all.
    """

    label: str
    name: str
    place: str
    weight: float
    at_most: int = 0


def is_sources(text: str) -> bool:
    """Says whether a text is written like sources, and not like one place."""
    name, separator, _ = text.partition("=")
    return bool(separator) and name.strip().lower() in (*SOURCES, WASF)


def parse_sources(text: str) -> tuple[SourceText, ...]:
    """Reads the sources of a text; the classic mix is spelt out.

    Raises:
        ValueError: if the text is not of that form, or names an unknown source.
    """
    parts = [
        part
        for name, place, weight in _assignments(text)
        for part in (
            [(kind, f"{place.rstrip('/')}/{folder}", weight, most) for kind, folder, most in CLASSIC]
            if name == WASF
            else [(name, place, weight, 0)]
        )
    ]
    seen: Counter[str] = Counter()
    found = []
    for name, place, weight, most in parts:
        seen[name] += 1
        label = f"{name}-{seen[name]}" if seen[name] > 1 else name
        found.append(SourceText(label, name, place, weight, most))
    return tuple(found)


def absolute_sources(text: str) -> str:
    """Writes the text with places that mean the same in every working directory, in one way only.

    Raises:
        ValueError: as `parse_sources`.
    """
    return ", ".join(
        f"{name}={place if place == SAMPLES else absolute_place(place)}"
        f"{'' if weight == 1 else f'*{weight:.12g}'}"
        for name, place, weight in _assignments(text)
    )


def _assignments(text: str) -> list[tuple[str, str, float]]:
    """(name, place, weight) as written."""
    found = [_assignment(part.strip(), text) for part in text.split(",")]
    if not any(weight > 0 for _, _, weight in found):
        raise ValueError(f"data.sources is '{text}': all weights are 0, nothing is left to train on")
    return found


def _assignment(part: str, text: str) -> tuple[str, str, float]:
    name, separator, rest = part.partition("=")
    name, rest = name.strip().lower(), rest.strip()
    place, _, weight = rest.rpartition("*") if "*" in rest else (rest, "", "1")
    if not separator or not place.strip():
        raise ValueError(f"data.sources is '{text}': '{part}' names no source and place; {_EXAMPLE}")
    if name not in (*SOURCES, WASF):
        sentence = unknown("source", name, (*sorted(SOURCES), WASF))
        raise ValueError(f"data.sources is '{text}': {sentence}")
    try:
        share = float(weight)
    except ValueError:
        share = math.nan
    if not 0 <= share < math.inf:
        raise ValueError(
            f"data.sources is '{text}': the weight '{weight}' of {name} must be a number of at least 0"
        )
    return name, place.strip(), share
