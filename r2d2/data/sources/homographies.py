"""Opens `homographies`: a user's pairs with known homographies, in folders of HPatches' layout.

Each folder has images `1.*` to `N.*` and text files `H_1_k`, from pixels of image 1 to pixels of image k; its
pairs are (1, k). Do not train on a benchmark that you score on.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np

from r2d2.config import DataConfig
from r2d2.containers import Pair
from r2d2.data.images import ImageRefused, is_image, refusing
from r2d2.data.pairs.matched_pair import HomographyMatch, make_matched_pair
from r2d2.data.pairs.plan import Size
from r2d2.data.places import OpenPlace
from r2d2.data.sources.items import Item, ItemSource
from r2d2.geometry import Array
from r2d2.storage.files import StoredFile

PREFIX = "H_1_"


@dataclass(frozen=True)
class HomographySource(ItemSource):
    """A HomographySource offers the pairs (1, k) with their homographies, each an item."""

    @classmethod
    def open(cls, place: str, places: OpenPlace) -> HomographySource:
        """Opens the pairs below a place."""
        files = places(place)
        images: defaultdict[str, dict[str, str]] = defaultdict(dict)
        for name in files.names:
            path = PurePosixPath(name)
            if path.stem.isdecimal() and is_image(name):
                images[str(path.parent)][path.stem] = name
        items = []
        for name in files.names:
            path = PurePosixPath(name)
            numbered = images.get(str(path.parent), {})
            number = path.name.removeprefix(PREFIX)
            if path.name.startswith(PREFIX) and {"1", number} <= numbered.keys():
                items.append(Item(name, numbered["1"], numbered[number], (name,)))
        if not items:
            raise ValueError(f"'{place}' holds no folders with images 1.*, k.* and homographies {PREFIX}k")
        return cls(files, tuple(items))

    def make(self, item: int, config: DataConfig, rng: np.random.Generator, sample: str) -> Pair:
        """Cuts windows of both images that show the same place by the homography; see `make_matched_pair`."""
        image1, image2, file = self.files(item)

        def match(_size1: Size, _size2: Size) -> HomographyMatch:
            return HomographyMatch(_read_homography(file))

        return make_matched_pair(image1, image2, match, config, rng, sample)


def _read_homography(file: StoredFile) -> Array:
    """The nine numbers of a homography, (3, 3)."""
    with refusing(file):
        words = file.read().decode("ascii").split()
        numbers = np.array([float(word) for word in words])
    if len(numbers) != 9 or not np.isfinite(numbers).all():
        raise ImageRefused(file, "no homography: it is nine numbers")
    homography = numbers.reshape(3, 3)
    if abs(np.linalg.det(homography)) <= 1e-12 * np.abs(homography).max() ** 3:
        raise ImageRefused(file, "no homography: it cannot be inverted")
    return homography
