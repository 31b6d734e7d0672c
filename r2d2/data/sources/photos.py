"""`photos`: photographs of one's own, in folders; random homographies make pairs of them."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass

import numpy as np

from r2d2.config import DataConfig
from r2d2.containers import Pair
from r2d2.data.pairs.batch_render import PreparedPair, prepare_pair
from r2d2.data.pairs.photo_pair import make_pair
from r2d2.data.photos import PhotoSet, open_photos, photo_set
from r2d2.data.places import OpenPlace
from r2d2.storage.files import StoredFile


@dataclass(frozen=True)
class PhotoSource:
    """Photographs, each an item.

    Attributes:
        photos: all of them.
    """

    photos: PhotoSet

    @classmethod
    def open(cls, place: str, places: OpenPlace) -> PhotoSource:
        """The photographs at a place, or with the name "samples" those that installed packages ship."""
        return cls(open_photos(place, places))

    def __len__(self) -> int:
        return len(self.photos)

    @property
    def digest(self) -> str:
        """That of the photographs."""
        return self.photos.digest

    def name(self, item: int) -> str:
        """The photograph's."""
        return self.photos.names[item]

    def files(self, item: int) -> tuple[StoredFile, ...]:
        """The photograph."""
        return (self.photos.files[item],)

    def make(self, item: int, config: DataConfig, rng: np.random.Generator, sample: str) -> Pair:
        """Two views of the photograph; see `make_pair`."""
        return make_pair(self.photos.files[item], config, rng, sample)

    def prepare(self, item: int, config: DataConfig, rng: np.random.Generator, sample: str) -> PreparedPair:
        """The same before its pixels are made; see `prepare_pair`."""
        return prepare_pair(self.photos.files[item], config, rng, sample)

    def without(self, held_out: Container[StoredFile]) -> PhotoSource | None:
        """The photographs that are not held out."""
        kept = zip(self.photos.names, self.photos.files, strict=True)
        left = {name: file for name, file in kept if file not in held_out}
        return type(self)(photo_set(left)) if left else None
