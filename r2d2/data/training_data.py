"""Opens the data of a training, and keeps the held-out photographs out of it."""

from __future__ import annotations

from dataclasses import dataclass

from r2d2.config import DataConfig
from r2d2.data.mixture import Ingredient, Mixture
from r2d2.data.photos import PhotoSet, open_photos, photo_set, split
from r2d2.data.places import OpenPlace, opener
from r2d2.data.source_text import parse_sources
from r2d2.data.sources import SOURCES
from r2d2.data.sources.source import HeldOut
from r2d2.storage.cache import CacheSettings


@dataclass(frozen=True)
class TrainingData:
    """TrainingData are the sources of a training, and the photographs that are kept out of it.

    Attributes:
        training: shows nothing of what is held out.
        held_out: photographs for the validation benchmark.
    """

    training: Mixture
    held_out: PhotoSet


def open_training_data(config: DataConfig, cache: CacheSettings | None = None) -> TrainingData:
    """Opens the sources, or the photographs if there are none, and holds photographs out.

    They are held out of the sources of single photographs, or else of `data.photos`; no pair that shows one
    of them is left in any source.

    Args:
        config: names them.
        cache: where objects of S3 are kept on this node; None: nowhere.

    Raises:
        ValueError: for a missing place, one that holds nothing of its source, or too few photographs.
        StorageError: if a place cannot be looked at.
    """
    places = opener(cache)
    if not config.sources:
        training, held_out = split(open_photos(config.photos, places), config.held_out, config.split_seed)
        return TrainingData(Mixture.of(training), held_out)
    ingredients = _open(config.sources, places)
    if config.held_out == 0:
        return TrainingData(Mixture(ingredients), photo_set({}))
    _, held_out = split(_photographs(ingredients, config, places), config.held_out, config.split_seed)
    withheld = HeldOut(held_out)
    left = [(part, part.source.without(withheld)) for part in ingredients]
    kept = tuple(
        Ingredient(part.label, source, part.weight, part.at_most)
        for part, source in left
        if source is not None
    )
    if not kept:
        raise ValueError(
            f"data.sources is '{config.sources}': nothing is left to train on when {config.held_out} "
            "photographs are held out"
        )
    return TrainingData(Mixture(kept), held_out)


def _open(text: str, places: OpenPlace) -> tuple[Ingredient, ...]:
    """The sources of weight above 0."""
    return tuple(
        Ingredient(part.label, SOURCES[part.name].open(part.place, places), part.weight, part.at_most)
        for part in parse_sources(text)
        if part.weight > 0
    )


def _photographs(ingredients: tuple[Ingredient, ...], config: DataConfig, places: OpenPlace) -> PhotoSet:
    """What may be held out: all photographs of the sources that consist of single ones."""
    found = {
        f"{part.label}/{name}": file
        for part in ingredients
        if part.source.photos is not None
        for name, file in zip(part.source.photos.names, part.source.photos.files, strict=True)
    }
    return photo_set(found) if found else open_photos(config.photos, places)
