"""Defines PairSource: where training pairs come from, item by item."""

from __future__ import annotations

from collections.abc import Container, Iterable
from pathlib import PurePosixPath
from typing import Protocol

import numpy as np

from r2d2.config import DataConfig
from r2d2.containers import Pair
from r2d2.data.pairs.batch_render import PreparedPair
from r2d2.data.photos import Copies, PhotoSet
from r2d2.data.places import OpenPlace
from r2d2.storage.files import StoredFile

# Where Aachen's photographs lie below a place.
DATABASE = "images_upright/db/"

MAX_NAMED = 3


class PairSource(Protocol):
    """A PairSource offers items; an item gives another pair each time. A PairSource can be pickled."""

    def __len__(self) -> int:
        """Returns the number of items."""

    @property
    def contents(self) -> dict[str, str]:
        """Returns the SHA-256 of each file that is used by its name."""

    @property
    def digest(self) -> str:
        """Returns the SHA-256 over names and contents of all items, wherever they lie."""

    @property
    def photos(self) -> PhotoSet | None:
        """Returns the photographs if each item is one, so that some may be held out; otherwise None."""

    def name(self, item: int) -> str:
        """Returns what an item is called wherever its place is."""

    def files(self, item: int) -> tuple[StoredFile, ...]:
        """Returns every file that `make` opens for an item."""

    def make(self, item: int, config: DataConfig, rng: np.random.Generator, sample: str) -> Pair:
        """Makes a pair of an item.

        Args:
            item: its number.
            config: the ranges of everything random, and the crop's size.
            rng: the only source of randomness.
            sample: what to call the pair in messages.

        Raises:
            ImageRefused: if a file of the item cannot be used.
            PlaceError: if nothing can be had from its place.
        """

    def prepare(
        self, item: int, config: DataConfig, rng: np.random.Generator, sample: str
    ) -> PreparedPair | Pair:
        """Does what `make` does before it makes pixels; makes the pair where only `make` can."""

    def without(self, held_out: Container[StoredFile]) -> PairSource | None:
        """Returns the items that show nothing of what is held out; None if there are none."""


class SourceType(Protocol):
    """A SourceType opens places as one kind of source."""

    def open(self, place: str, places: OpenPlace) -> PairSource:
        """Opens the source at a place.

        Args:
            place: a folder, or `s3://bucket/prefix`.
            places: opens a place.

        Raises:
            ValueError: if the place holds no item.
            StorageError: if it cannot be looked at.
        """


class HeldOut:
    """A HeldOut knows the held-out photographs by their content, and Aachen's also by their name."""

    def __init__(self, photos: PhotoSet) -> None:
        self._copies = Copies(photos.files)
        self._database = {name for file in photos.files if (name := database_name(file.name)) is not None}

    def __contains__(self, file: object) -> bool:
        assert isinstance(file, StoredFile)
        return database_name(file.name) in self._database or file in self._copies


def database_name(name: str) -> str | None:
    """Returns which photograph of Aachen's database a file is, without suffix; None for another file."""
    _, found, below = f"/{name}".rpartition(f"/{DATABASE}")
    return str(PurePosixPath(below).with_suffix("")) if found else None


def some_of(names: Iterable[str]) -> str:
    """Says how many names there are, and the first ones: `5: a, b, c and 2 more`."""
    names = list(names)
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return f"{len(names)}: {', '.join(names[:MAX_NAMED])}{more}"
