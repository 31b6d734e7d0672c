"""PairSource: where training pairs come from, item by item."""

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
    """Items that each become a pair, another one each time. Can be pickled."""

    def __len__(self) -> int:
        """Number of items."""

    @property
    def digest(self) -> str:
        """SHA-256 over names and contents of all items, wherever they lie."""

    @property
    def photos(self) -> PhotoSet | None:
        """The photographs, if the items are single ones: they may be held out for validation."""

    def name(self, item: int) -> str:
        """What an item is called wherever its place is."""

    def files(self, item: int) -> tuple[StoredFile, ...]:
        """Every file that `make` opens."""

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
        """What `make` does before it makes pixels; the pair itself where only `make` can make them."""

    def without(self, held_out: Container[StoredFile]) -> PairSource | None:
        """The items that show nothing of what is held out; None if there are none."""


class SourceType(Protocol):
    """A kind of source: opens a place."""

    def open(self, place: str, places: OpenPlace) -> PairSource:
        """The source at a place.

        Args:
            place: a folder, or `s3://bucket/prefix`.
            places: opens a place.

        Raises:
            ValueError: if the place holds no item.
            StorageError: if it cannot be looked at.
        """


class HeldOut:
    """Whether a file is a held-out photograph: by its content, or as the same photograph of Aachen."""

    def __init__(self, photos: PhotoSet) -> None:
        self._copies = Copies(photos.files)
        self._database = {name for file in photos.files if (name := database_name(file.name)) is not None}

    def __contains__(self, file: object) -> bool:
        assert isinstance(file, StoredFile)
        return database_name(file.name) in self._database or file in self._copies


def database_name(name: str) -> str | None:
    """The photograph of Aachen's database that a file is, without its suffix; None if it is another file."""
    _, found, below = f"/{name}".rpartition(f"/{DATABASE}")
    return str(PurePosixPath(below).with_suffix("")) if found else None


def some_of(names: Iterable[str]) -> str:
    """How many, and the names of the first ones: `5: a, b, c and 2 more`."""
    names = list(names)
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return f"{len(names)}: {', '.join(names[:MAX_NAMED])}{more}"
