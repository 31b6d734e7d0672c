"""Reads label selectors of the command line, and says which nodes they select."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

# Kubernetes' syntax of labels, which Ray takes over.
_NAME = r"[A-Za-z0-9](?:[\w.-]{0,61}[A-Za-z0-9])?"
_CONDITION = re.compile(
    rf"((?:[A-Za-z0-9.-]{{1,253}}/)?{_NAME})\s*(!?)=\s*(!?)({_NAME}|in\({_NAME}(?:,\s*{_NAME})*\))", re.ASCII
)
_BETWEEN = re.compile(r",(?![^(]*\))")
# Takes a stored selector back.
ANY = "any"
# Every node has one, and nobody selects by it.
_OWN = "ray.io/node-id"


def parse_labels(texts: Sequence[str]) -> dict[str, str]:
    """Parses conditions on labels into Ray's label selector, e.g. `zone!=a` into `{"zone": "!a"}`.

    Args:
        texts: each `KEY=VALUE`, `KEY!=VALUE`, `KEY=in(A,B)` or `KEY!=in(A,B)`, or several with commas between
            them; `any` alone: no condition.

    Raises:
        ValueError: if a text is something else, or two conditions are about one label.
    """
    if list(texts) == [ANY]:
        return {}
    selector: dict[str, str] = {}
    for text in (part.strip() for one in texts for part in _BETWEEN.split(one)):
        found = _CONDITION.fullmatch(text)
        if found is None or (found[2] and found[3]):
            raise ValueError(
                f"'{text}' is no condition on a label; write KEY=VALUE, KEY!=VALUE, KEY=in(A,B) or "
                "KEY!=in(A,B)"
            )
        if found[1] in selector:
            raise ValueError(
                f"there are two conditions on the label '{found[1]}'; Ray takes one, e.g. in(A,B)"
            )
        selector[found[1]] = found[2] + found[3] + re.sub(r",\s*", ",", found[4])
    return selector


def is_selected(labels: Mapping[str, str], selector: Mapping[str, str]) -> bool:
    """Says whether Ray lets what has this selector run on a node with these labels.

    A node that lacks a label fulfils its negation.
    """
    return all(_holds(condition, labels.get(name)) for name, condition in selector.items())


def _holds(condition: str, value: str | None) -> bool:
    wanted = condition.removeprefix("!")
    values = wanted[3:-1].split(",") if wanted.startswith("in(") else [wanted]
    return (value in values) != condition.startswith("!")


def in_words(conditions: Mapping[str, str]) -> str:
    """Describes a selector as it is written on the command line; or a node's labels."""
    shown = {name: condition for name, condition in conditions.items() if name != _OWN}
    texts = (f"{name}!={c[1:]}" if c.startswith("!") else f"{name}={c}" for name, c in shown.items())
    return ", ".join(texts) or "none"
