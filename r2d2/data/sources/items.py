"""Defines ItemSource, the base of sources whose items consist of several files."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Container
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import numpy as np

from r2d2.config import DataConfig
from r2d2.containers import Pair
from r2d2.data.pairs.batch_render import PreparedPair
from r2d2.data.places import contents_of, digest_of
from r2d2.storage.files import FileSet, StoredFile


@dataclass(frozen=True)
class Item:
    """An Item names the files of one pair.

    Attributes:
        name: of the item.
        image1, image2: their names.
        others: names of the files that lead from one to the other.
    """

    name: str
    image1: str
    image2: str
    others: tuple[str, ...] = ()


@dataclass(frozen=True)
class ItemSource(ABC):
    """An ItemSource offers pairs of images in the files of one place; see `PairSource`.

    Attributes:
        place: the files.
        items: sorted by name.
    """

    place: FileSet
    items: tuple[Item, ...]

    def __len__(self) -> int:
        return len(self.items)

    @property
    def photos(self) -> None:
        """Returns None: the validation benchmark is made of photographs, so no pair can be held out."""
        return None

    @cached_property
    def contents(self) -> dict[str, str]:
        """Returns the SHA-256 of each file that is used by its name."""
        used = sorted({name for item in self.items for name in _names(item)})
        return contents_of((name, StoredFile(self.place, name)) for name in used)

    @property
    def digest(self) -> str:
        """Returns the SHA-256 over names and contents of all files that are used."""
        return digest_of(self.contents)

    def name(self, item: int) -> str:
        """Returns the item's own name."""
        return self.items[item].name

    def files(self, item: int) -> tuple[StoredFile, ...]:
        """Returns both images, and the files of their correspondence."""
        return tuple(StoredFile(self.place, name) for name in _names(self.items[item]))

    @abstractmethod
    def make(self, item: int, config: DataConfig, rng: np.random.Generator, sample: str) -> Pair:
        """Makes a pair of an item; see `PairSource.make`."""

    def prepare(
        self, item: int, config: DataConfig, rng: np.random.Generator, sample: str
    ) -> PreparedPair | Pair:
        """Prepares a pair of an item; see `PairSource.prepare`."""
        return self.make(item, config, rng, sample)

    def without(self, held_out: Container[StoredFile]) -> Self | None:
        """Returns the items neither of whose images is held out; None if there are none."""
        images = {name for item in self.items for name in (item.image1, item.image2)}
        taken = {name for name in images if StoredFile(self.place, name) in held_out}
        left = tuple(item for item in self.items if not taken & {item.image1, item.image2})
        return replace(self, items=left) if left else None


def _names(item: Item) -> tuple[str, ...]:
    return (item.image1, item.image2, *item.others)
