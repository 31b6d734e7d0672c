"""Says of an unknown name which names are known, and which one was probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping

# How alike two names must be, from 0 to 1: `stduy` and `study` are 0.8, `dise` and `dice` 0.75.
CUTOFF = 0.6


def unknown(noun: str, name: str, known: Iterable[str], where: str = "", besides: str = "") -> str:
    """Says that a name is not known, e.g. `unknown sweep 'stduy'; known: demo, study. Did you mean 'study'?`.

    Args:
        noun: what the name should be of.
        name: as it was given.
        known: those there are, in the order in which they are listed.
        where: follows the name, e.g. ` in 'data.crop'`.
        besides: follows the list: what is allowed too.
    """
    known = list(known)
    listed = ", ".join(known) or "none"
    return f"unknown {noun} '{name}'{where}; known: {listed}{besides}{did_you_mean(name, known)}"


def did_you_mean(name: str, known: Iterable[str] | Mapping[str, str]) -> str:
    """Asks whether the known name that is most like the given one was meant; empty if none is like it.

    Args:
        name: as it was given.
        known: what may be meant; of a mapping, what may have been written, to what it means.
    """
    meanings = known if isinstance(known, Mapping) else {one: one for one in known}
    by_lower = {written.lower(): meant for written, meant in meanings.items()}
    found = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=CUTOFF)
    return f". Did you mean '{by_lower[found[0]]}'?" if found else ""
