"""Opens `style` (S): Aachen's photographs in other styles: `style_transfer/NAME.jpg.st_STYLE.jpg`.

The styled picture shows the same view as `images_upright/db/NAME.jpg`, perhaps at another size. It takes the
place of image 2 of a pair made by a random homography.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np

from r2d2.config import DataConfig
from r2d2.containers import Pair
from r2d2.data.images import is_image
from r2d2.data.pairs.batch_render import PreparedPair, prepare_pair
from r2d2.data.pairs.photo_pair import make_pair
from r2d2.data.places import OpenPlace
from r2d2.data.sources.aachen import database
from r2d2.data.sources.items import Item, ItemSource
from r2d2.data.sources.source import DATABASE, some_of

STYLED, MARK = "style_transfer/", ".st_"


@dataclass(frozen=True)
class StyleSource(ItemSource):
    """A StyleSource offers style transfers, each an item."""

    @classmethod
    def open(cls, place: str, places: OpenPlace) -> StyleSource:
        """Opens the transfers below a place whose photograph is there; it warns of the others."""
        files = places(place)
        photos = database(files)
        styled = [name for name in files.names if name.startswith(STYLED) and MARK in name and is_image(name)]
        items = {name: photos.get(_photo(name)) for name in styled}
        alone = [name for name, photo in items.items() if photo is None]
        if len(alone) == len(styled):
            raise ValueError(
                f"'{place}' holds no style transfers {STYLED}NAME.jpg{MARK}*.jpg beside {DATABASE}NAME.jpg"
            )
        if alone:
            warnings.warn(
                f"style transfers without a photograph are left out: {some_of(alone)}", stacklevel=2
            )
        found = (Item(name, photo, name) for name, photo in items.items() if photo is not None)
        return cls(files, tuple(found))

    def make(self, item: int, config: DataConfig, rng: np.random.Generator, sample: str) -> Pair:
        """Makes a view of the photograph and one of its styled picture; see `make_pair`."""
        photo, styled = self.files(item)
        return make_pair(photo, config, rng, sample, second=styled)

    def prepare(self, item: int, config: DataConfig, rng: np.random.Generator, sample: str) -> PreparedPair:
        """Does what `make` does before it makes pixels; see `prepare_pair`."""
        photo, styled = self.files(item)
        return prepare_pair(photo, config, rng, sample, second=styled)


def _photo(name: str) -> str:
    """The photograph of a transfer, without suffix."""
    return name[len(STYLED) :].partition(MARK)[0].rpartition(".")[0]
