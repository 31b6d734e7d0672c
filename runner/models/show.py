"""Draws what a model sees in one image or two, and the pairs that a training sees, as pictures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count as numbers_from
from itertools import islice
from pathlib import Path

import numpy as np
from torch import device

from evaluation.benchmarks.hpatches import Homography, read_homography
from evaluation.metrics.matching import mutual_nearest_neighbours
from evaluation.metrics.mma import CORRECT_WITHIN, matching_errors
from evaluation.pictures.maps import Bytes, image_maps
from evaluation.pictures.network import PairMatches, image_picture, pair_picture
from evaluation.pictures.training_pairs import training_picture
from r2d2.checkpoint import Model
from r2d2.config import TrainConfig
from r2d2.containers import Keypoints, Pair
from r2d2.data.images import read_image
from r2d2.data.loader import epoch_loader
from r2d2.data.normalisation import normalise
from r2d2.data.training_data import open_training_data
from r2d2.extraction.keypoints import extract_keypoints
from r2d2.extraction.settings import ExtractionSettings
from r2d2.geometry import apply_homography
from r2d2.storage.cache import CacheSettings

# Longer side of the image that the maps are made of, pixels: that of extraction's largest level by default.
MAPS_SIDE = 1024

# Image 1 is asked at so many places a side whether image 2 shows them too.
_PLACES = 64


@dataclass(frozen=True)
class Shown:
    """A Shown is a picture with a short summary.

    Attributes:
        png: the contents of the file.
        summary: what is to be seen, in a few words.
    """

    png: bytes
    summary: str


def show_image(model: Model, path: Path, settings: ExtractionSettings) -> Shown:
    """Draws an image with its keypoints and maps.

    Raises:
        ImageRefused: if the image cannot be used.
    """
    image = read_image(path)
    keypoints = extract_keypoints(model.network, normalise(image), settings)
    seen = image_maps(model.network, image, keypoints.keypoints, image_name(path), MAPS_SIDE)
    return Shown(image_picture(seen, model.name), f"{len(keypoints)} keypoints")


def show_pair(
    model: Model, paths: tuple[Path, Path], settings: ExtractionSettings, homography: Homography | None
) -> Shown:
    """Draws two images with their keypoints and maps, and the matches between them.

    Args:
        model: the network.
        paths: the images.
        settings: of the extraction.
        homography: (3, 3), from pixels of the first to pixels of the second; None if unknown.

    Raises:
        ImageRefused: if an image cannot be used.
        ValueError: if by the homography the images have no part in common.
    """
    image1, image2 = (read_image(path) for path in paths)
    if homography is not None and not have_common_part(homography, image1, image2):
        raise ValueError(f"by the homography, {paths[1]} shows no part of {paths[0]}")
    first, second = (extract_keypoints(model.network, normalise(i), settings) for i in (image1, image2))
    found = _matched(first, second, homography)
    seen1, seen2 = (
        image_maps(model.network, image, keypoints.keypoints, image_name(path), MAPS_SIDE)
        for image, keypoints, path in zip((image1, image2), (first, second), paths, strict=True)
    )
    summary = f"{len(first)} and {len(second)} keypoints, {len(found.matches)} matches"
    if found.errors is not None:
        summary += f", {(found.errors <= CORRECT_WITHIN).sum()} of them within {CORRECT_WITHIN} px"
    return Shown(pair_picture((seen1, seen2), found, model.name), summary)


def show_training_pairs(config: TrainConfig, count: int, objects: CacheSettings | None = None) -> Shown:
    """Draws the first pairs that a training with this configuration sees.

    Args:
        config: names the sources, the recipe and the seed.
        count: how many pairs, at least 1.
        objects: where this node keeps what is on S3; None: nowhere.

    Raises:
        ValueError: for missing or too few photographs or pairs.
    """
    shown = list(islice(_training_pairs(config, objects), count))
    empty = sum(not pair.valid for pair in shown)
    summary = f"{len(shown)} pairs" + (f", {empty} of them without common windows" if empty else "")
    source = config.data.sources or config.data.photos
    return Shown(training_picture(shown, f"training pairs of {source}, seed {config.seed}"), summary)


def sequence_homography(path1: Path, path2: Path) -> Homography | None:
    """Reads the homography of two images that are `1` and `k` of an HPatches sequence; else None.

    Raises:
        ValueError: if `H_1_k` is there but holds no homography.
    """
    file = path2.with_name(f"H_1_{path2.stem}")
    if path1.stem != "1" or path1.absolute().parent != path2.absolute().parent or not file.is_file():
        return None
    return read_homography(file)


def have_common_part(homography: Homography, image1: Bytes, image2: Bytes) -> bool:
    """Says whether any place of image 1 lies in image 2."""
    (height1, width1), (height2, width2) = image1.shape[:2], image2.shape[:2]
    x, y = np.meshgrid(np.linspace(0, width1 - 1, _PLACES), np.linspace(0, height1 - 1, _PLACES))
    places = apply_homography(homography, np.stack([x, y], axis=-1))
    # Comparisons with NaN, behind the horizon, are false.
    return bool(((places >= 0) & (places <= [width2 - 1, height2 - 1])).all(axis=-1).any())


def image_name(path: Path) -> str:
    """Names an image: the file's name, with the folder's name before it if the file has only a number."""
    return f"{path.absolute().parent.name} {path.stem}" if path.stem.isdecimal() else path.name


def _matched(first: Keypoints, second: Keypoints, homography: Homography | None) -> PairMatches:
    matches = mutual_nearest_neighbours(first.descriptors, second.descriptors)
    if homography is None:
        return PairMatches(matches, None)
    return PairMatches(matches, matching_errors(first.keypoints, second.keypoints, matches, homography))


def _training_pairs(config: TrainConfig, objects: CacheSettings | None = None) -> Iterator[Pair]:
    """Yields the pairs of epoch 1, then those of the next epochs; also fewer than a batch."""
    training = open_training_data(config.data, objects).training
    pairs = config.data.pairs_per_epoch or training.pairs
    config = replace(config, pairs_per_worker=min(config.pairs_per_worker, pairs))
    for epoch in numbers_from(1):
        for delivered in epoch_loader(training, config, epoch):
            batch = delivered.to(device("cpu"))
            for index, sample in enumerate(batch.samples):
                yield Pair(batch.image1[index], batch.image2[index], batch.aflow[index], sample)
