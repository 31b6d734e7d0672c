"""Opens `flow` (F): pairs of images with dense flow.

Aachen's `optical_flow/flow/A_B.png` with `optical_flow/mask/A_B.png`, between `images_upright/db/A.jpg` and
`B.jpg`; and your own folders, each with `1.*`, `2.*` and `flow_1_2.flo` or `flow_1_2.png`, as Middlebury
and KITTI write them.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np

from r2d2.config import DataConfig
from r2d2.containers import Pair
from r2d2.data.images import ImageRefused, is_image
from r2d2.data.pairs.flow_field import FlowField
from r2d2.data.pairs.flow_files import AachenFlow, KittiFlow, MiddleburyFlow
from r2d2.data.pairs.matched_pair import make_matched_pair
from r2d2.data.pairs.plan import Size
from r2d2.data.places import OpenPlace
from r2d2.data.sources.aachen import database
from r2d2.data.sources.items import Item, ItemSource
from r2d2.data.sources.source import DATABASE, some_of
from r2d2.storage.files import FileSet, StoredFile

FLOW, MASK = "optical_flow/flow/", "optical_flow/mask/"
OWN = "flow_1_2"


@dataclass(frozen=True)
class FlowSource(ItemSource):
    """A FlowSource offers pairs of images with dense flow, each an item."""

    @classmethod
    def open(cls, place: str, places: OpenPlace) -> FlowSource:
        """Opens the pairs below a place; flow without its images or mask is left out with a warning."""
        files = places(place)
        flows = [name for name in files.names if name.startswith(FLOW) and name.endswith(".png")]
        items = {**_aachen_items(files, flows), **_own_items(files)}
        if not items:
            raise ValueError(
                f"'{place}' holds no pairs with flow: neither {FLOW}A_B.png with {MASK}A_B.png and "
                f"{DATABASE}A.jpg and B.jpg, nor folders with 1.*, 2.* and {OWN}.flo or {OWN}.png"
            )
        alone = [name for name in flows if name not in items]
        if alone:
            warnings.warn(f"flow without images or mask is left out: {some_of(alone)}", stacklevel=2)
        return cls(files, tuple(items[name] for name in sorted(items)))

    def make(self, item: int, config: DataConfig, rng: np.random.Generator, sample: str) -> Pair:
        """Cuts windows of both images that show the same place by the flow; see `make_matched_pair`."""
        image1, image2, *others = self.files(item)

        def match(size1: Size, _: Size) -> FlowField:
            return _read_flow(others, size1)

        return make_matched_pair(image1, image2, match, config, rng, sample)


def _read_flow(files: list[StoredFile], size1: Size) -> FlowField:
    """The flow in a file, or in a file and its mask, for an image 1 of this size."""
    flow: FlowField
    if len(files) == 2:
        flow = AachenFlow(files[0], files[1])
    elif files[0].name.endswith(".flo"):
        flow = MiddleburyFlow(files[0])
    else:
        flow = KittiFlow(files[0])
    if flow.size != size1:
        (width, height), (width1, height1) = flow.size, size1
        raise ImageRefused(files[0], f"{width}x{height} pixels; image 1 has {width1}x{height1}")
    return flow


def _aachen_items(files: FileSet, flows: list[str]) -> dict[str, Item]:
    names, photos = frozenset(files.names), database(files)
    items = {}
    for flow in flows:
        pair, mask = PurePosixPath(flow).stem, MASK + flow[len(FLOW) :]
        for first, second in _halves(pair):
            if first in photos and second in photos and mask in names:
                items[flow] = Item(flow, photos[first], photos[second], (flow, mask))
    return items


def _halves(pair: str) -> Iterator[tuple[str, str]]:
    """`A_B` cut at each underscore: names of photographs may hold some too."""
    words = pair.split("_")
    return (("_".join(words[:k]), "_".join(words[k:])) for k in range(1, len(words)))


def _own_items(files: FileSet) -> dict[str, Item]:
    folders: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for name in files.names:
        path = PurePosixPath(name)
        if path.stem in ("1", "2") and is_image(name):
            folders[str(path.parent)][path.stem] = name
        elif path.stem == OWN and path.suffix in (".flo", ".png"):
            folders[str(path.parent)][OWN] = name
    return {
        parts[OWN]: Item(parts[OWN], parts["1"], parts["2"], (parts[OWN],))
        for parts in folders.values()
        if parts.keys() == {"1", "2", OWN}
    }
