"""Lists the entries of TrainConfig: what each means, its default, and which values it takes."""

from __future__ import annotations

import typing
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from r2d2.config import CHOICES, TrainConfig
from r2d2.settings import allowed_values
from r2d2.unknown import did_you_mean


@dataclass(frozen=True)
class Entry:
    """An Entry is one setting of a training.

    Attributes:
        key: with dots, e.g. `loss.similarity`.
        doc: what it means.
        default: its value unless another one is set.
        annotation: its type.
        metadata: as `r2d2.settings.setting` made it.
    """

    key: str
    doc: str
    default: object
    annotation: Any
    metadata: Mapping[str, Any]

    @property
    def allowed(self) -> str:
        """Says which values it takes; imports the losses and networks where it chooses among them."""
        if self.key in CHOICES:
            return ", ".join(CHOICES[self.key].names)
        return allowed_values(self.annotation, self.metadata)


def entries(cls: type[Any] = TrainConfig, prefix: str = "") -> list[Entry]:
    """Lists every setting of a group and of the groups in it, in their order."""
    hints, found = typing.get_type_hints(cls), []
    for one in fields(cls):
        key, annotation = f"{prefix}{one.name}", hints[one.name]
        if is_dataclass(annotation):
            found += entries(typing.cast(type[Any], annotation), f"{key}.")
        else:
            found.append(Entry(key, one.metadata["doc"], one.default, annotation, one.metadata))
    return found


def find_entries(part: str) -> list[Entry]:
    """Finds the settings whose key holds a text, or if none does, those whose meaning does.

    Raises:
        ValueError: if there is none.
    """
    known, wanted = entries(), part.strip().lower()
    found = [e for e in known if wanted in e.key] or [e for e in known if wanted in e.doc.lower()]
    if not found:
        meant = did_you_mean(wanted, {e.key.rpartition(".")[2]: e.key for e in known})
        raise ValueError(f"no setting is called like '{part}'; r2d2 settings lists all of them{meant}")
    return found
