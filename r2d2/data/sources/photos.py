"""Opens `photos`: a user's photographs in folders; random homographies make pairs of them."""

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
    """A PhotoSource offers photographs, each an item.

    Attributes:
        photos: all of them.
    """

    photos: PhotoSet

    @classmethod
    def open(cls, place: str, places: OpenPlace) -> PhotoSource:
        """Opens the photographs at a place, or those that installed packages ship, named "samples"."""
        return cls(open_photos(place, places))

    def __len__(self) -> int:
        return len(self.photos)

    @property
    def contents(self) -> dict[str, str]:
        """Returns the SHA-256 of each photograph by its name."""
        return self.photos.contents

    @property
    def digest(self) -> str:
        """Returns the digest of the photographs."""
        return self.photos.digest

    def name(self, item: int) -> str:
        """Returns the photograph's own name."""
        return self.photos.names[item]

    def files(self, item: int) -> tuple[StoredFile, ...]:
        """Returns the photograph's file."""
        return (self.photos.files[item],)

    def make(self, item: int, config: DataConfig, rng: np.random.Generator, sample: str) -> Pair:
        """Makes two views of the photograph; see `make_pair`."""
        return make_pair(self.photos.files[item], config, rng, sample)

    def prepare(self, item: int, config: DataConfig, rng: np.random.Generator, sample: str) -> PreparedPair:
        """Does what `make` does before it makes pixels; see `prepare_pair`."""
        return prepare_pair(self.photos.files[item], config, rng, sample)

    def without(self, held_out: Container[StoredFile]) -> PhotoSource | None:
        """Returns the photographs that are not held out; None if there are none."""
        kept = zip(self.photos.names, self.photos.files, strict=True)
        left = {name: file for name, file in kept if file not in held_out}
        return type(self)(photo_set(left)) if left else None
